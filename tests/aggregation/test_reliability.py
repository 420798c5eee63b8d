"""One client's score."""

import math

import pytest

from fedcmp.aggregation.reliability import LARGEST_GAMMA, Reliability


@pytest.mark.parametrize(
    ("arm", "expected"), [("both", 4 * math.exp(-0.5)), ("magnitude", 4.0), ("quality", math.exp(-0.5)), ("none", 7.0)]
)
def test_arms(arm, expected):
    scores = Reliability(arm, gamma=0.5, magnitude_cap=math.inf)
    assert scores.score(magnitude=4.0, alignment_error=1.0, count=7, limit=math.inf) == pytest.approx(expected)


def test_cap_is_a_multiple_of_the_last_rounds_median_before_capping():
    scores = Reliability("magnitude", gamma=1.0, magnitude_cap=2.0)
    for magnitudes, limit in [((1.0, 3.0, 50.0), math.inf), ((2.0, 100.0), 6.0), ((7.0,), 102.0)]:
        assert scores.limit == limit
        for magnitude in magnitudes:
            expected = min(magnitude, limit)
            assert scores.score(magnitude=magnitude, alignment_error=0.0, count=1, limit=limit) == expected
        scores.remember(magnitudes, mean=math.nan)
    assert scores.median == 7.0


def test_where_only_the_sum_is_known_the_mean_takes_the_medians_place():
    scores = Reliability("magnitude", gamma=1.0, magnitude_cap=2.0)
    scores.remember([], mean=18.0)
    assert scores.limit == 36.0


@pytest.mark.parametrize(
    ("arm", "expected"), [("both", 7.0), ("magnitude", 7.0), ("quality", math.exp(-1)), ("none", 7.0)]
)
def test_a_limit_of_zero_counts_samples_where_movement_counts(arm, expected):
    scores = Reliability(arm, gamma=1.0, magnitude_cap=2.0)
    assert scores.score(magnitude=4.0, alignment_error=1.0, count=7, limit=0.0) == expected


def test_no_cap_however_many_rounds():
    scores = Reliability("both", gamma=1.0, magnitude_cap=math.inf)
    scores.remember([0.0], mean=0.0)
    assert scores.limit == math.inf


def test_largest_gamma_leaves_the_worst_client_a_score():
    assert (
        Reliability("quality", gamma=LARGEST_GAMMA, magnitude_cap=1.0).score(
            magnitude=0.0, alignment_error=2.0, count=1, limit=math.inf
        )
        > 0
    )
