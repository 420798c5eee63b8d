import math
import statistics

import pytest

from fedcmp.report.methods import CAPTION_LOSS
from fedcmp.report.study.metrics import MEAN_RANK, SUITES, spread, write_difference, write_estimate, write_p
from fedcmp.report.study.statistics import Estimate
from fedcmp.runs.records import WORLD_SUITES

from .fakes import SUITES as WRITTEN


def test_the_seven_suites_have_the_run_files_names():
    assert tuple(suite.key for suite in SUITES) == WRITTEN == WORLD_SUITES
    assert not any(suite.lower_is_better for suite in SUITES)


def test_estimates_are_written_with_their_standard_deviation_over_seeds():
    assert write_estimate(CAPTION_LOSS, Estimate(0.3954, 0.0031, 4)) == ("0.395", "± 0.006")
    assert write_estimate(CAPTION_LOSS, Estimate(0.3954)) == ("0.395", "")
    assert write_estimate(CAPTION_LOSS, Estimate(math.nan, None, 2)) == ("diverged", "")
    assert write_estimate(CAPTION_LOSS, None) == ("–", "")


def test_the_spread_is_that_of_the_seeds():
    values = [0.3, 0.31, 0.35]
    assert spread(Estimate.of(values)) == pytest.approx(statistics.stdev(values))
    assert spread(Estimate.of([0.3])) is None


def test_differences_have_a_decimal_more():
    assert write_difference(CAPTION_LOSS, 0.00521, 0.00041, sign=True) == "+0.0052 (standard error 0.0004)"
    assert write_difference(MEAN_RANK, -1.5) == "−1.500"


@pytest.mark.parametrize(("p", "text"), [(None, "–"), (0.00042, "< 0.001"), (0.0419, "0.042"), (1.0, "1.000")])
def test_p_values(p, text):
    assert write_p(p) == text
