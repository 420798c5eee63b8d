import math

import numpy as np
import pytest
import scipy.stats

from fedcmp.report.study.statistics import (
    Estimate,
    PairedDifference,
    distance_closed,
    holm,
    informative,
    mean_ranks,
    oscillation,
    ranks,
    standard_error,
)


def seeds(*values):
    return dict(enumerate(values, start=1))


def test_the_error_is_that_of_the_mean():
    values = [0.41, 0.44, 0.40, 0.47, 0.39]
    found = Estimate.of(values)
    assert found.mean == pytest.approx(np.mean(values))
    assert found.error == pytest.approx(np.std(values, ddof=1) / np.sqrt(5))
    assert found.count == 5


def test_one_seed_has_no_error_and_none_is_refused():
    assert Estimate.of([0.4]) == Estimate(0.4, None, 1)
    assert standard_error([]) is None
    with pytest.raises(ValueError, match="no value"):
        Estimate.of([])


def test_a_diverged_seed_is_not_averaged_away():
    found = Estimate.of([0.4, math.inf, 0.41])
    assert math.isnan(found.mean)
    assert (found.error, found.count, found.finite) == (None, 3, False)


def test_a_paired_difference_by_hand():
    # differences 1, 2, 3: mean 2, error 1/sqrt 3, t = 2 sqrt 3; with 2 degrees of freedom p = 1 - t / sqrt(2 + t^2)
    found = PairedDifference.between(seeds(5.0, 5.0, 5.0), seeds(6.0, 7.0, 8.0))
    t = 2 * math.sqrt(3)
    assert (found.mean, found.count) == (2.0, 3)
    assert found.error == pytest.approx(1 / math.sqrt(3))
    assert found.p == pytest.approx(1 - t / math.sqrt(2 + t**2))
    assert found.margin == pytest.approx(2 - 2 / math.sqrt(3))
    assert found.beyond_two_errors


def test_only_common_seeds_are_compared():
    ours, rival = {1: 0.40, 2: 0.42, 9: 5.0}, {2: 0.45, 1: 0.44, 7: -5.0}
    found = PairedDifference.between(ours, rival)
    assert (found.count, found.mean) == (2, pytest.approx(0.035))
    assert found.p == pytest.approx(scipy.stats.ttest_1samp([0.04, 0.03], 0).pvalue)
    assert PairedDifference.between({1: 0.4}, {2: 0.4}) is None


def test_one_common_seed_claims_nothing():
    found = PairedDifference.between({1: 0.1}, {1: 0.9, 2: 0.9})
    assert (found.error, found.p, found.beyond_two_errors) == (None, None, False)


@pytest.mark.parametrize(("gap", "p", "beyond"), [(0.0, 1.0, False), (0.1, None, True), (-0.1, None, False)])
def test_differences_without_spread_have_no_test(gap, p, beyond):
    ours = seeds(0.3, 0.4, 0.7)
    found = PairedDifference.between(ours, {seed: value + gap for seed, value in ours.items()})
    assert (found.error, found.p, found.beyond_two_errors) == (0.0, p, beyond)
    assert found.mean == pytest.approx(gap)


def test_a_diverged_run_has_no_difference():
    found = PairedDifference.between(seeds(0.3, math.nan), seeds(0.4, 0.5))
    assert math.isnan(found.mean)
    assert (found.p, found.beyond_two_errors) == (None, False)


def test_exactly_two_errors_are_not_beyond():
    assert not PairedDifference(0.5, 0.25, 5, 0.1).beyond_two_errors
    assert not PairedDifference(-1.0, 0.1, 5, 0.001).beyond_two_errors


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_holm_leaves_out_what_could_not_be_tested():
    assert holm([None, 0.02, None, 0.03]) == [None, pytest.approx(0.04), None, pytest.approx(0.04)]


def test_holm_rejects_what_its_step_down_rule_rejects():
    draw = np.random.default_rng(3)
    for _ in range(50):
        p = draw.uniform(size=6) ** 3
        adjusted = np.array(holm([float(value) for value in p]))
        for level in (0.01, 0.05, 0.2):
            rejected = np.zeros(6, dtype=bool)
            for step, index in enumerate(np.argsort(p)):
                if p[index] > level / (6 - step):
                    break
                rejected[index] = True
            assert ((adjusted <= level) == rejected).all()


def test_ties_share_the_mean_of_their_places():
    assert ranks([30.0, 10.0, 20.0, 20.0]) == [1.0, 4.0, 2.5, 2.5]
    assert ranks([0.3, 0.1, math.nan], higher_is_better=False) == [2.0, 1.0, 3.0]


def test_mean_ranks_are_per_seed_over_the_suites():
    scores = {
        "a": {"pope": seeds(60.0, 60.0), "mme": seeds(900.0, 800.0)},
        "b": {"pope": seeds(50.0, 60.0), "mme": seeds(950.0, 900.0)},
        "c": {"pope": seeds(40.0, 70.0), "mme": seeds(100.0, 100.0)},
    }
    assert mean_ranks(scores) == {"a": {1: 1.5, 2: 2.25}, "b": {1: 1.5, 2: 1.75}, "c": {1: 3.0, 2: 2.0}}


def test_seeds_that_not_all_ran_do_not_count():
    scores = {"a": {"pope": seeds(50.0, 50.0, 50.0)}, "b": {"pope": {2: 60.0}}, "c": {"pope": {2: 40.0, 3: 90.0}}}
    assert mean_ranks(scores) == {"a": {2: 2.0}, "b": {2: 1.0}, "c": {2: 3.0}}


def test_without_a_seed_that_all_ran_two_methods_make_a_field():
    scores = {"a": {"pope": seeds(50.0, 50.0)}, "b": {"pope": {2: 60.0, 3: 70.0}}, "c": {"pope": {4: 10.0}}}
    assert mean_ranks(scores) == {"a": {2: 2.0}, "b": {2: 1.0}, "c": {}}


def test_a_method_without_every_suite_is_not_ranked():
    scores = {
        "a": {"pope": seeds(60.0), "mme": seeds(900.0)},
        "b": {"pope": seeds(70.0)},
        "c": {"pope": seeds(80.0), "mme": seeds(700.0)},
    }
    assert mean_ranks(scores) == {"a": {1: 1.5}, "b": {}, "c": {1: 1.5}}
    assert mean_ranks({"a": {}}) == {"a": {}}


@pytest.mark.parametrize(("gain", "expected"), [(3.6, False), (3.7, True)])
def test_a_suite_informs_beyond_twice_the_noise_of_the_difference(gain, expected):
    # noise of the difference: sqrt(2 * 1.2^2 + .7^2) = 1.8358, twice it 3.672
    assert informative(Estimate(50 + gain, 0.7, 5), 50.0, 1.2) is expected


def test_the_share_of_a_distance_that_is_the_same_at_every_seed_is_a_plain_mean():
    start, end = seeds(0.5, 0.5, 0.5), seeds(0.3, 0.3, 0.3)
    found = distance_closed(seeds(0.44, 0.40, 0.42), start, end)
    shares = [0.3, 0.5, 0.4]
    assert found.mean == pytest.approx(0.4)
    assert found.error == pytest.approx(np.std(shares, ddof=1) / np.sqrt(3))


def test_the_error_of_the_ratio_is_that_of_resampled_seeds():
    draw = np.random.default_rng(0)
    count = 400
    start = 0.5 + 0.02 * draw.standard_normal(count)
    end = 0.3 + 0.01 * draw.standard_normal(count)
    values = start - 0.3 * (start - end) + 0.01 * draw.standard_normal(count)
    found = distance_closed(*(dict(enumerate(map(float, column))) for column in (values, start, end)))
    picks = draw.integers(count, size=(2000, count))
    resampled = (start - values)[picks].mean(1) / (start - end)[picks].mean(1)
    assert found.mean == pytest.approx(0.3, abs=0.01)
    assert found.error == pytest.approx(resampled.std(), rel=0.1)


def test_no_distance_no_share():
    values = seeds(0.4, 0.41)
    assert distance_closed(values, seeds(0.4, 0.4), seeds(0.5, 0.5)) is None
    assert distance_closed(values, seeds(0.5, 0.4), seeds(0.3, 0.41)) is None  # the distance is within its own noise
    assert distance_closed(values, seeds(0.5, math.nan), seeds(0.3, 0.3)) is None
    assert distance_closed(values, {7: 0.5}, seeds(0.3, 0.3)) is None
    assert distance_closed({1: 0.4}, seeds(0.5), seeds(0.3)) == Estimate(pytest.approx(0.5), None, 1)


def test_oscillation_sums_what_was_lost():
    assert oscillation([1.0, 0.5, 0.7, 0.4, 0.45], higher_is_better=False) == pytest.approx(0.25)
    assert oscillation([10.0, 30.0, 25.0, 40.0, 38.0], higher_is_better=True) == pytest.approx(7.0)
    assert oscillation([3.0], higher_is_better=True) == 0
