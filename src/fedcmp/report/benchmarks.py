"""The table of a run's real benchmarks (runs/benchmark_results.py) alongside the paper's own figures.

A local-only run has results for each client, which are averaged.
"""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from fedcmp.report.comparison import Comparison
from fedcmp.report.methods import MeanSpread, Metric, ordered, write_number
from fedcmp.report.paper import ARXIV, PaperRow, paper_table_of
from fedcmp.report.summary import title_of
from fedcmp.report.tables import Cell, Column, Row, Table, name_cell
from fedcmp.runs.benchmark_results import RESULTS, UNITS, Benchmarked, Results, read_results
from fedcmp.runs.fields import text

BENCHMARKS = tuple(Metric(name, title, unit, False, 1) for name, (title, unit) in UNITS.items())


@dataclass(frozen=True)
class BenchmarkRow:
    """A row of the table: a method's results, one `Results` a seed."""

    title: str
    runs: Sequence[Results] = field(default_factory=tuple)
    federated: bool = True
    name: Cell | None = None

    @property
    def asked(self) -> bool:
        """Tell whether there is any result."""
        return any(self.value(metric.key) for metric in BENCHMARKS)

    def value(self, name: str) -> MeanSpread | None:
        """Return the mean over seeds of the means over models; for one seed of many models, the spread over those."""
        by_run = [scores for run in self.runs if (scores := run.scores(name))]
        if not by_run:
            return None
        if len(by_run) == 1:
            return MeanSpread.of(by_run[0], "clients" if len(by_run[0]) > 1 else "seeds")
        return MeanSpread.of([statistics.fmean(scores) for scores in by_run], "seeds")


def benchmarks_table(comparison: Comparison) -> Table | None:
    """Return the benchmarks of a report's runs with the paper's figures for their scenario; None without any."""
    palette = comparison.palette
    lines = [
        BenchmarkRow(
            title_of(method),
            [read_results(run.folder / RESULTS) for run in method.runs],
            method.federated,
            name_cell(palette, method.label, title_of(method)),
        )
        for method in comparison.methods
    ]
    scenarios = ordered(
        text(run.recipe.get("scenario", {}).get("kind")) for method in comparison.methods for run in method.runs
    )
    scenario = scenarios[0] if len(scenarios) == 1 else ""
    table = table_of(lines, scenario, caption="The paper's benchmarks, by lmms-eval")
    old = [
        f"{line.title} after round {asked} of the {run.round_reached} that are trained"
        for method, line in zip(comparison.methods, lines, strict=True)
        for run, results in zip(method.runs, line.runs, strict=True)
        if (asked := min((r.round for r in results.all() if r.round is not None), default=run.round_reached))
        < run.round_reached
    ]
    if table is None or not old:
        return table
    return replace(table, notes=(f"Asked before the training had ended: {', '.join(old)}. Ask again.", *table.notes))


def table_of(lines: Sequence[BenchmarkRow], scenario: str, *, caption: str) -> Table | None:
    """Return methods x benchmarks, best federated in bold; below a rule what the paper reports for the scenario.

    Args:
        lines: the methods; those without a result are left out.
        scenario: "image", "cross", "joint" or "text"; for any other the paper's headline table is shown.
        caption: of the table.
    """
    asked = [line for line in lines if line.asked]
    if not asked:
        return None
    best = {metric.key: _best(asked, metric) for metric in BENCHMARKS}
    rows = [
        Row(
            (
                line.name or Cell(line.title),
                *(_cell(line, metric, best[metric.key]) for metric in BENCHMARKS),
            ),
            reference=not line.federated,
        )
        for line in asked
    ]
    results = [result for line in asked for run in line.runs for result in run.all()]
    toys = {result.name for result in results if result.toy}
    notes = [*_notes(results)]
    if not all(result.toy for result in results):  # the paper's figures are none to compare toy scores with
        paper = paper_table_of(scenario)
        shown = paper or paper_table_of("image")
        assert shown is not None  # the headline table is in the package
        of = "" if paper else ", image clusters"
        rows += [paper_row(row, f"{row.title}, the paper's figures{of}") for row in shown.rows]
        notes += _paper_notes(shown.table, own=paper is not None)
    named = [replace(m, title=f"{m.key}-world") if m.key in toys else m for m in BENCHMARKS]
    columns = (Column("Method", numeric=False), *map(Column.of, named))
    figures = [figure for line in asked for m in BENCHMARKS if (figure := line.value(m.key))]
    if any(figure.spread is not None for figure in figures):
        notes.append("± is the standard deviation over seeds, or over the clients' own models of one seed.")
    if any(figure.count == 1 for figure in figures):
        notes.append("Without ± there was one seed only: how much another would differ is not known.")
    return Table(columns, tuple(rows), caption, tuple(notes), apart=True, stacked=True)


def _best(lines: Sequence[BenchmarkRow], metric: Metric) -> float | None:
    means = {figure.mean for line in lines if line.federated and (figure := line.value(metric.key))}
    return max(means) if len(means) > 1 else None  # none where all are alike


def _cell(line: BenchmarkRow, metric: Metric, best: float | None) -> Cell:
    figure = line.value(metric.key)
    if figure is None:
        return Cell("–")
    spread = figure.spread
    bold = line.federated and figure.mean == best
    return Cell(
        metric.write(figure.mean), figure.mean, "" if spread is None else f"± {metric.write(spread)}", bold=bold
    )


def paper_row(row: PaperRow, title: str) -> Row:
    """Return one of the paper's rows, set apart."""
    cells = [
        Cell(metric.write(score), score) if (score := row.scores.get(metric.key)) is not None else Cell("–")
        for metric in BENCHMARKS
    ]
    return Row((Cell(title), *cells), reference=True)


def _notes(results: Sequence[Benchmarked]) -> Iterable[str]:
    titles = {metric.key: metric.title for metric in BENCHMARKS}

    def named(chosen: Iterable[Benchmarked]) -> str:
        there = {result.name for result in chosen}
        return ", ".join(title for key, title in titles.items() if key in there)

    counts = {key: max((r.asked or 0 for r in results if r.name == key), default=0) for key in titles}
    told = ", ".join(f"{titles[key]} {write_number(count, 0)}" for key, count in counts.items() if count)
    versions = ordered(result.version for result in results if result.version)
    yield f"Asked by lmms-eval {' and '.join(versions)}; rows: {told}."
    if missing := ", ".join(title for key, title in titles.items() if not counts[key]):
        yield f"Not asked of any method: {missing}."
    if limited := [result for result in results if result.limited]:
        yield f"Only the first rows were asked of {named(limited)}: a trial, not a result."
    silent = {key: max((r for r in results if r.name == key), key=lambda r: r.empty, default=None) for key in titles}
    if said := ", ".join(f"{titles[key]} {r.empty} of {r.asked or '?'}" for key, r in silent.items() if r and r.empty):
        yield f"Empty answers, which count as wrong ones, of the model with most of them: {said}."
    if toys := [result for result in results if result.toy]:
        yield f"{named(toys)}: items of the embedded toy world in the benchmark's format, not the benchmark's own."
    if formed := [result for result in results if result.prompts]:
        yield f"Prompts of another form than lmms-eval's: {named(formed)}. Not comparable with anybody else's figures."
    for judge in ordered(result.judge for result in results if result.judge):
        yield f"{named(r for r in results if r.judge == judge)}: judged by {judge}."


def _paper_notes(table: str, *, own: bool) -> Iterable[str]:
    of = f"its table {table}"
    if not own:
        of += ", which is about image clusters: it has no scenario like this one"
    yield (
        f"The paper's figures: {ARXIV}, {of}, without seeds or error bars. They can be compared only with runs "
        "of the same frozen models, pairs and rounds; which metric of a benchmark it is, we do not know."
    )
