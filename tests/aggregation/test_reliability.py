"""One client's score."""

import math

import pytest

from fedcmp.aggregation.reliability import LARGEST_GAMMA, Reliability


@pytest.mark.parametrize(
    ("arm", "expected"), [("both", 4 * math.exp(-0.5)), ("magnitude", 4.0), ("quality", math.exp(-0.5)), ("none", 7.0)]
)
def test_arms(arm, expected):
    scores = Reliability(arm, gamma=0.5, magnitude_cap=math.inf)
    assert scores.score(magnitude=4.0, alignment_error=1.0, count=7) == pytest.approx(expected)


def test_cap_is_a_multiple_of_the_last_rounds_median_before_capping():
    scores = Reliability("magnitude", gamma=1.0, magnitude_cap=2.0)
    for magnitudes, limit in [((1.0, 3.0, 50.0), math.inf), ((2.0, 100.0), 6.0), ((7.0,), 102.0)]:
        scores.begin()
        assert scores.limit == limit
        for magnitude in magnitudes:
            expected = min(magnitude, limit)
            assert scores.score(magnitude=magnitude, alignment_error=0.0, count=1) == expected
        scores.remember()
    assert scores.median == 7.0


def test_no_cap_however_many_rounds():
    scores = Reliability("both", gamma=1.0, magnitude_cap=math.inf)
    scores.score(magnitude=0.0, alignment_error=0.0, count=1)
    scores.remember()
    assert scores.limit == math.inf


def test_largest_gamma_leaves_the_worst_client_a_score():
    assert (
        Reliability("quality", gamma=LARGEST_GAMMA, magnitude_cap=1.0).score(
            magnitude=0.0, alignment_error=2.0, count=1
        )
        > 0
    )
