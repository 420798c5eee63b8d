"""The study's first screen: caption losses of all methods in all scenarios as one heat map, best method first."""

import math
import statistics

from fedcmp.report.methods import CAPTION_LOSS
from fedcmp.report.study.comparing import Comparison, Entry
from fedcmp.report.study.results import Results
from fedcmp.report.study.statistics import Estimate
from fedcmp.report.tables import Cell, Column, Row, Table, name_cell
from fedcmp.runs.study_records import StudyMethod


def heat_map(results: Results) -> Table | None:
    """Return methods by scenarios; None before any federated method has a figure.

    A cell's tint is the stronger, the nearer its loss is to the scenario's best federated one, by the square root of
    its part of the way up to the worst federated one or to the blind LLM, whichever is lower.
    """
    shown = [one for one in results.comparisons if one.winner is not None]
    shares = {one.scenario.name: _shares(one) for one in shown}
    rows = []
    for method in _in_order(results, shares):
        cells = [name_cell(results.palette, method.name, method.title)]
        cells += [_cell(one, one.named(method.name), shares[one.scenario.name].get(method.name)) for one in shown]
        rows.append(Row(tuple(cells), reference=not method.federated, owner=method.title))
    if not shown:
        return None
    blind = [one.blind.values.get(CAPTION_LOSS.key) if one.blind is not None else None for one in shown]
    if any(blind):
        known = [Cell(CAPTION_LOSS.write(value), value) for value in blind]
        rows.append(Row((Cell("blind", colour=results.palette.reference), *known), reference=True))
    columns = (Column("Method", numeric=False), *(Column(one.scenario.title, "nats", better="low") for one in shown))
    notes = (
        "Caption loss in nats per token, mean over seeds. The stronger the tint, the nearer to the scenario's best "
        "(square-root scale; none: the worst federated method or the blind LLM). In bold: lower than every other "
        "federated method by more than two standard errors of the paired difference.",
    )
    return Table(
        columns, tuple(rows), "Caption loss of every method in every scenario", notes, apart=True, stacked=True
    )


def beats_all(one: Comparison) -> bool:
    """Tell whether the scenario's best is lower than every other federated method by more than two standard errors.

    Few held-out pairs, and models that have learned nothing, prove nothing, however many seeds agree.
    """
    if one.winner is None or one.undecided:
        return False
    found = one.differences(one.winner, CAPTION_LOSS.key)
    measured = [(entry, one.estimate(entry, CAPTION_LOSS.key)) for entry in one.entries if entry is not one.winner]
    finite = [entry for entry, estimate in measured if estimate is not None and estimate.finite]
    gaps = [found[entry.method.name] for entry in finite]
    return bool(gaps) and all(gap is not None and gap.beyond_two_errors for gap in gaps)


def _loss(entry: Entry | None) -> Estimate | None:
    return entry.estimate(CAPTION_LOSS.key) if entry is not None else None


def _shares(one: Comparison) -> dict[str, float]:
    """Federated method -> 1 for the scenario's best loss, 0 for the light end of the scale or a loss beyond it."""
    found = {entry.method.name: estimate.mean for entry in one.entries if (estimate := _loss(entry)) is not None}
    finite = {name: loss for name, loss in found.items() if math.isfinite(loss)}
    blind = one.blind.values.get(CAPTION_LOSS.key, math.nan) if one.blind is not None else math.nan
    best, end = min(finite.values()), max(finite.values())
    end = min(end, blind) if blind > best else end
    span = end - best or 1.0
    return {name: 1 - math.sqrt(min(1.0, (loss - best) / span)) for name, loss in finite.items()}


def _in_order(results: Results, shares: dict[str, dict[str, float]]) -> list[StudyMethod]:
    """Return the methods that have a figure: federated ones by their mean share, then the others.

    The mean is over the scenarios that all of them ran; where there is none, over each one's own.
    """
    names = {name for by_name in shares.values() for name in by_name}
    shared = [by_name for by_name in shares.values() if by_name.keys() >= names] or list(shares.values())
    mean = {name: statistics.fmean(by_name[name] for by_name in shared if name in by_name) for name in names}
    federated = [method for method in results.methods if method.name in mean]
    others = [method for method in results.methods if not method.federated]
    return sorted(federated, key=lambda method: -mean[method.name]) + others


def _cell(one: Comparison, entry: Entry | None, share: float | None) -> Cell:
    estimate = _loss(entry)
    if estimate is None:
        return Cell("–")
    bold = entry is one.winner and beats_all(one)
    value = estimate.mean if estimate.finite else None
    return Cell(CAPTION_LOSS.write(estimate.mean), value, bold=bold, shade=share)
