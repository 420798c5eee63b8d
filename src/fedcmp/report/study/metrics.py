"""What a study's tables show: the seven suites, the mean rank over them, and the losses on held-out pairs."""

import math
from dataclasses import replace

from fedcmp.report.methods import CAPTION_LOSS, SHUFFLED, Metric, write_number
from fedcmp.report.study.statistics import Estimate
from fedcmp.runs.records import WORLD_SUITES

# small counterparts of the real benchmarks, named so that nobody takes their scores for those; MME is a sum of subtasks
SUITES = tuple(
    Metric(name, name, *(("sum", False, 0) if name == "mme-world" else ("%", False, 1))) for name in WORLD_SUITES
)
QUESTIONS = Metric("question_accuracy", "Question accuracy", "%", False, 1)
MEAN_RANK = Metric("mean_rank", "Mean rank", "", True, 2)
WORST_FAMILY = Metric("worst_family_loss", "Worst-family loss", "nats/token", True, 3)
WORST_CLIENT = Metric("worst_client_loss", "Worst-client loss", "nats/token", True, 3)
MEAN_LOSS = Metric("mean_loss", "Mean loss", "nats/token", True, 3)
LOSSES = (CAPTION_LOSS, WORST_FAMILY, WORST_CLIENT, MEAN_LOSS)
TABLE_METRICS = (*SUITES, MEAN_RANK, *LOSSES, SHUFFLED)
# what a method must be strictly best in to win a scenario
CLAIMS = (CAPTION_LOSS, WORST_FAMILY, MEAN_RANK)
# what is tested seed by seed, ours against every other method
TESTED = (CAPTION_LOSS, WORST_FAMILY, WORST_CLIENT)


def spread(estimate: Estimate) -> float | None:
    """Return the standard deviation over seeds behind a mean's standard error; None for one seed."""
    return None if estimate.error is None else estimate.error * math.sqrt(estimate.count)


def write_estimate(metric: Metric, estimate: Estimate | None) -> tuple[str, str]:
    """Write a mean and its standard deviation over seeds: ("0.395", "± 0.003"); a dash where nothing was measured."""
    if estimate is None:
        return "–", ""
    deviation = spread(estimate)
    return metric.write(estimate.mean), "" if deviation is None else f"± {metric.write(deviation)}"


def write_difference(metric: Metric, mean: float, error: float | None = None, *, sign: bool = False) -> str:
    """Write a difference, its standard error named, with a decimal more than the values that it parts."""
    finer = replace(metric, decimals=metric.decimals + 1)
    return finer.write(mean, sign=sign) + ("" if error is None else f" (standard error {finer.write(error)})")


def write_p(p: float | None) -> str:
    """Write a p-value with three decimals, "< 0.001" below that; a dash where no test could be made."""
    if p is None:
        return "–"
    return "< 0.001" if p < 0.001 else write_number(p, 3)
