"""Whether our method wins a scenario: three conditions, each met or not met, with the numbers that say so.

A condition (caption loss, worst-family loss, mean rank; lower is better in all three) is met when our mean over the
common seeds is lower than every other federated method's by more than two standard errors of the paired difference. One
seed never meets it, as it has no error. A rival that diverged counts as beaten, ours diverged as not met.
Where no method can win (comparing.py, undecided) no condition is met.
"""

import math
from dataclasses import dataclass

from fedcmp.report.methods import CAPTION_LOSS, Metric
from fedcmp.report.study.comparing import OURS, Comparison, Entry
from fedcmp.report.study.metrics import CLAIMS, write_difference, write_estimate
from fedcmp.report.study.results import Results
from fedcmp.report.study.statistics import Estimate, PairedDifference
from fedcmp.report.tables import Cell, Column, Row, Table


@dataclass(frozen=True)
class Claim:
    """One condition in one scenario; `rival` is the method that comes closest to breaking it, or breaks it most."""

    metric: Metric
    met: bool
    ours: Estimate
    rival: Entry
    theirs: Estimate
    difference: PairedDifference | None
    beaten: int
    rivals: int

    @property
    def reason(self) -> str:
        """Return the numbers: ours against the rival's, and their paired difference."""
        write = self.metric.write
        told = f"{write(self.ours.mean)} against {write(self.theirs.mean)} of {self.rival.method.title}"
        if self.difference is None:
            return f"{told}; no seed that both ran"
        if not math.isfinite(self.difference.mean):
            return told
        lead = write_difference(self.metric, self.difference.mean, self.difference.error, sign=True)
        if self.difference.error is None:
            return f"{told}; one seed ({lead}), no spread known"
        return f"{told}; difference {lead}, n = {self.difference.count}"


def claim(one: Comparison, metric: Metric) -> Claim | None:
    """Judge one condition.

    Returns:
        None where our method or every other federated one has no figure.
    """
    ours = one.named(OURS)
    mine = one.estimate(ours, metric.key) if ours is not None else None
    if ours is None or mine is None:
        return None
    found = one.differences(ours, metric.key)
    rivals: list[tuple[float, Entry, Estimate, PairedDifference | None, bool]] = []
    for entry in one.entries:
        theirs = one.estimate(entry, metric.key)
        if entry is ours or theirs is None:
            continue
        gap = found[entry.method.name]
        beaten = (
            mine.finite and not one.undecided and (not theirs.finite or (gap is not None and gap.beyond_two_errors))
        )
        finite = gap is not None and math.isfinite(gap.mean)
        margin = gap.margin if gap is not None and finite else math.inf if beaten else -math.inf
        rivals.append((margin, entry, theirs, gap, beaten))
    if not rivals:
        return None
    count = sum(beaten for *_, beaten in rivals)
    _, rival, theirs, gap, _ = min(rivals, key=lambda found: (found[4], found[0]))
    return Claim(metric, count == len(rivals), mine, rival, theirs, gap, count, len(rivals))


def claims(one: Comparison) -> list[Claim]:
    """Return the conditions that can be judged in one scenario."""
    return [found for metric in CLAIMS if (found := claim(one, metric)) is not None]


def conditions(results: Results) -> tuple[Metric, ...]:
    """Return the conditions that can be judged anywhere in the study: the mean rank where suites were asked only."""
    found = {judged.metric.key for one in results.comparisons for judged in claims(one)}
    return tuple(metric for metric in CLAIMS if metric.key in found) or CLAIMS


def claims_table(results: Results) -> Table | None:
    """Return scenarios by conditions: the best method and its lead, then each condition with its numbers."""
    rows, wanted = [], conditions(results)
    for one in results.comparisons:
        if one.winner is None:
            continue
        loss = one.estimate(one.winner, CAPTION_LOSS.key)
        cells = [Cell(one.scenario.title), Cell(one.winner.method.title), Cell(*_loss(loss))]
        rows.append(
            Row((*cells, *(_claim_cell(claim(one, metric)) for metric in wanted)), best=_wins(one, len(wanted)))
        )
    if not rows:
        return None
    title = results.study.methods[OURS].title if OURS in results.study.methods else OURS
    columns = (
        Column("Scenario", numeric=False),
        Column("Best federated", numeric=False),
        Column("Caption loss", "nats", better="low"),
        *(Column(f"{title}: {metric.title.lower()}", numeric=False) for metric in wanted),
    )
    notes = (
        f"Met: {title} is lower than every other federated method by more than two standard errors of the paired "
        "difference (theirs minus ours, over common seeds). Shown is the rival that comes closest or breaks the "
        "condition most, and how many of the rivals are beaten so. With few seeds two standard errors come by chance "
        "now and then: against one equal rival in 15 % of all cases with 2 seeds, in 9 % with 3, in 6 % with 5.",
    )
    return (
        Table(columns, tuple(rows), "Who wins in each scenario", notes, stacked=True)
        .without_empty_columns()
        .with_spread_note()
    )


def _loss(loss: Estimate | None) -> tuple[str, float | None, str]:
    text, error = write_estimate(CAPTION_LOSS, loss)
    return text, loss.mean if loss else None, error


def _wins(one: Comparison, wanted: int) -> bool:
    found = claims(one)
    return len(found) == wanted and all(judged.met for judged in found)


def _claim_cell(judged: Claim | None) -> Cell:
    if judged is None:
        return Cell("–")
    said = "met" if judged.met else "not met"
    return Cell(said, None, f"{judged.reason} ({judged.beaten} of {judged.rivals})", bold=judged.met)
