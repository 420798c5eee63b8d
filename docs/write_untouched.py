"""Judge the hypotheses of docs/untouched.md by the packed study, and write results/untouched-hypotheses.md.

    python docs/write_untouched.py              (fedcmp study recipes/untouched.toml --pack results/untouched.jsonl)
    python docs/write_untouched.py --freeze     write the recipe's sha256 into docs/untouched.md, before the first run

For ours x, rivals y, FedAvg s and the ceiling c, at the seeds that both sides of a difference ran:
    H1    d_i = s_i - 0.7 (s_i - c_i) - x_i                      caption loss
    H2    d_i = y_i - x_i      y the rival of the lowest mean    worst family's loss
    H3    d_i = y_i - x_i      for every rival                   caption loss
    H4    d_i = y_i - x_i      y the rival of the lowest mean    worst client's loss
Each is the paired t-test of d; Holm's correction over all of them, in the image and cross scenarios together.
"""

import hashlib
import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fedcmp.report.markdown import render_tables
from fedcmp.report.methods import CAPTION_LOSS, Metric
from fedcmp.report.study import Results, load_study
from fedcmp.report.study.comparing import CENTRALIZED, FEDAVG, OURS, Comparison, Entry
from fedcmp.report.study.metrics import WORST_CLIENT, WORST_FAMILY, write_difference, write_p
from fedcmp.report.study.statistics import PairedDifference, distance_closed, holm
from fedcmp.report.tables import Cell, Column, Row, Table
from fedcmp.study.packing import unpacked

ROOT = Path(__file__).resolve().parents[1]
PLAN, RECIPE = ROOT / "docs" / "untouched.md", ROOT / "recipes" / "untouched.toml"
MAIN, GOAL, ALPHA = ("image", "cross"), 0.7, 0.05
SAME_STEP = "centralized-with-canonical"  # the ceiling of H1
_FROZEN = re.compile(r"^[0-9a-f]{64}(?=  recipes/untouched\.toml$)", re.MULTILINE)  # as sha256sum prints it
_OPEN = "- **Status:** open."
BEGINNING = """\
# The hypotheses of the untouched world

Written by `python docs/write_untouched.py` from results/untouched.jsonl. What was expected, and how it is
judged, was fixed before the first run: docs/untouched.md.
"""


@dataclass(frozen=True)
class Finding:
    """One test: a hypothesis in one scenario against one rival; `gap` is above 0 where it favours ours."""

    hypothesis: str
    scenario: str
    against: str
    metric: Metric
    gap: PairedDifference | None


def findings(results: Results) -> list[Finding]:
    """Return all tests of the plan, also those whose runs are not there."""
    found = []
    for one in results.comparisons:
        if one.scenario.name in MAIN:
            found += [_distance(one), _best_rival("H2", one, WORST_FAMILY)]
            found += [_gap("H3", one, CAPTION_LOSS, rival) for rival in _rivals(one)]
            found.append(_best_rival("H4", one, WORST_CLIENT))
    return found


def _rivals(one: Comparison) -> list[Entry]:
    return [entry for entry in one.entries if entry.method.name != OURS]


def _gap(hypothesis: str, one: Comparison, metric: Metric, rival: Entry) -> Finding:
    ours = one.named(OURS)
    gap = PairedDifference.between(ours.by_seed(metric.key), rival.by_seed(metric.key)) if ours is not None else None
    return Finding(hypothesis, one.scenario.title, rival.method.title, metric, gap)


def _best_rival(hypothesis: str, one: Comparison, metric: Metric) -> Finding:
    means = {
        rival.method.name: estimate.mean
        for rival in _rivals(one)
        if (estimate := rival.estimate(metric.key)) is not None and estimate.finite
    }
    best = one.named(min(means, key=lambda name: means[name])) if means else None
    if best is None:
        return Finding(hypothesis, one.scenario.title, "the best rival", metric, None)
    return _gap(hypothesis, one, metric, best)


def _distance(one: Comparison) -> Finding:
    """H1: ours against the loss at which the goal's share of the distance is closed, seed by seed."""
    key, told = CAPTION_LOSS.key, f"{GOAL:.0%} of the way to the ceiling"
    ours, start, end = (one.named(name) for name in (OURS, FEDAVG, SAME_STEP))
    if ours is None or start is None or end is None:
        return Finding("H1", one.scenario.title, told, CAPTION_LOSS, None)
    goal = target(start.by_seed(key), end.by_seed(key))
    return Finding("H1", one.scenario.title, told, CAPTION_LOSS, PairedDifference.between(ours.by_seed(key), goal))


def target(start: Mapping[int, float], end: Mapping[int, float]) -> dict[int, float]:
    """Return seed -> the loss at which the goal's share of the distance from `start` to `end` is closed."""
    return {seed: start[seed] - GOAL * (start[seed] - end[seed]) for seed in start.keys() & end.keys()}


def verdict(gap: PairedDifference | None, p: float | None) -> str:
    """Return what the plan calls it: confirmed, reached but not shown, missed or refuted."""
    if gap is None:
        return "not run"
    if math.isnan(gap.mean):
        return "no mean: a run diverged"
    shown = p is not None and p < ALPHA
    if gap.mean >= 0:
        return "confirmed" if shown and gap.mean > 0 else "reached, not shown"
    return "refuted" if shown else "missed"


def hypotheses_table(results: Results) -> Table:
    """Return every test with its difference, corrected p and verdict."""
    tests = findings(results)
    adjusted = holm([one.gap.p if one.gap is not None else None for one in tests])
    rows = []
    for one, p in zip(tests, adjusted, strict=True):
        told = "–" if one.gap is None else write_difference(one.metric, one.gap.mean, one.gap.error, sign=True)
        said = verdict(one.gap, p)
        cells = (one.hypothesis, one.scenario, one.metric.title, one.against, told, write_p(p), said)
        rows.append(Row(tuple(Cell(text, bold=text == "confirmed") for text in cells)))
    heads = ("Hypothesis", "Scenario", "By", "Against", "In favour of ours (nats)", "p", "Verdict")
    notes = (
        f"Paired over seeds; positive favours ours. p: two-sided t-test, Holm-corrected over all rows "
        f"that have one, alpha {ALPHA:g}. H3 holds in a scenario where every one of its rows does.",
    )
    columns = tuple(Column(head, numeric=head == "p") for head in heads)
    return Table(columns, tuple(rows), "Hypotheses", notes)


def shares_table(one: Comparison) -> Table:
    """Return which share of FedAvg's distance to each ceiling every method closes, with its standard error."""
    key, start = CAPTION_LOSS.key, one.named(FEDAVG)
    ends = [end for name in (SAME_STEP, CENTRALIZED) if (end := one.named(name)) is not None]
    rows = []
    for entry in one.entries if start is not None else ():
        if entry is start:
            continue
        cells = [Cell(entry.method.title)]
        for end in ends:
            share = distance_closed(entry.by_seed(key), start.by_seed(key), end.by_seed(key)) if start else None
            error = "" if share is None or share.error is None else f"(standard error {100 * share.error:.0f})"
            cells.append(Cell("–") if share is None else Cell(f"{100 * share.mean:.0f}", share.mean, error))
        rows.append(Row(tuple(cells)))
    heads = (Column("Method", numeric=False), *(Column(f"to {end.method.title}", "% closed") for end in ends))
    note = "Share of the caption loss between FedAvg (0 %) and the ceiling (100 %): a ratio of means over common seeds."
    return Table(heads, tuple(rows), f"{one.scenario.title}: distance from FedAvg closed", (note,))


def page(results: Results) -> str:
    """Return the whole page."""
    tables = [hypotheses_table(results), *(shares_table(one) for one in results.comparisons)]
    return render_tables(f"{BEGINNING}\n*{results.study.toy}*\n", tables)


def frozen(plan: str) -> str:
    """Return the sha256 that the plan holds."""
    (found,) = _FROZEN.findall(plan)
    return str(found)


def digest(recipe: Path = RECIPE) -> str:
    """Return the sha256 of the recipe's bytes."""
    return hashlib.sha256(recipe.read_bytes()).hexdigest()


def freeze(plan: Path = PLAN, recipe: Path = RECIPE) -> None:
    """Write the recipe's sha256 into the plan.

    Raises:
        SystemExit: the plan is not open any more.
    """
    text = plan.read_text(encoding="utf-8")
    if _OPEN not in text:
        raise SystemExit(f"{plan}: is closed; what changed after the first run goes under Deviations")
    plan.write_text(_FROZEN.sub(digest(recipe), text), encoding="utf-8")


def main(arguments: list[str]) -> None:
    """Freeze, or judge."""
    if arguments == ["--freeze"]:
        freeze()
        return
    with unpacked(ROOT / "results" / "untouched.jsonl") as folder:
        text = page(Results.of(load_study(folder)))
    (ROOT / "results" / "untouched-hypotheses.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
