"""The paper's benchmarks of a study's runs: a table per scenario in the form of the paper's own, and its cells next to
ours, an empty cell for whatever was not run.
"""

from collections.abc import Mapping

from fedcmp.report.benchmarks import BENCHMARKS, BenchmarkRow, paper_row, table_of
from fedcmp.report.paper import ARXIV, BY_HETEROGENEITY, paper_table_of
from fedcmp.report.study.comparing import Comparison, Entry
from fedcmp.report.study.results import Results
from fedcmp.report.study.resulttables import ResultTable
from fedcmp.report.tables import Cell, Column, Row, Table, name_cell

SCENARIO_TITLES = {
    "image": "Image clusters",
    "cross": "Cross clusters",
    "joint": "Joint clusters",
    "text": "Text clusters",
}


def benchmark_tables(results: Results) -> list[ResultTable]:
    """Return one table for each scenario of which runs were asked: methods in the study's order, means over seeds."""
    found = []
    for one in results.comparisons:
        title = _heading(one)
        table = table_of(
            _lines(results, one),
            one.scenario.name,
            caption=f"{one.scenario.title}: the paper's benchmarks",
        )
        if table is not None:
            found.append(ResultTable(f"benchmarks-{one.scenario.name}", title, "benchmarks", table))
    return found


def cells_tables(results: Results | None) -> list[ResultTable]:
    """Return, per scenario of the paper, all its cells next to this study's, where a study asked its benchmarks.

    Args:
        results: of a study; None: of nothing, so that all cells but the paper's are empty.
    """
    lines: dict[str, dict[str, BenchmarkRow]] = {}
    if results is not None:
        for one in results.comparisons:
            names = [entry.method.name for entry in _entries(results, one)]
            lines[one.scenario.name] = dict(zip(names, _lines(results, one), strict=True))
    asked = [line for found in lines.values() for line in found.values() if line.asked]
    toys = [result for line in asked for run in line.runs for result in run.all() if result.toy]
    if results is not None and (not asked or toys):
        return []  # the paper's figures are none to compare toy scores with
    return [
        ResultTable(
            f"cells-{scenario}", f"{SCENARIO_TITLES[scenario]}: the paper's cells and ours", "benchmarks", table
        )
        for scenario in BY_HETEROGENEITY
        if (table := cells_table(scenario, lines.get(scenario, {}))) is not None
    ]


def cells_table(scenario: str, lines: Mapping[str, BenchmarkRow]) -> Table | None:
    """Return two rows per method of the paper: its scores, and what was measured here.

    Args:
        scenario: one of the paper's; None is returned for any other.
        lines: our method -> its results.
    """
    paper = paper_table_of(scenario)
    if paper is None:
        return None
    rows = []
    for row in paper.rows:
        line = lines.get(row.method, BenchmarkRow(row.title))
        found = [line.value(metric.key) for metric in BENCHMARKS]
        ours = [
            Cell("–") if value is None else Cell(metric.write(value.mean), value.mean)
            for metric, value in zip(BENCHMARKS, found, strict=True)
        ]
        rows += [paper_row(row, f"{row.title}, paper"), Row((Cell(f"{row.title}, here"), *ours))]
    empty = sum(cell.text == "–" for row in rows for cell in row.cells)
    columns = (Column("Method", numeric=False), *map(Column.of, BENCHMARKS))
    notes = (
        f"The paper's table {paper.table} ({ARXIV}), without seeds or error bars, and what was measured here with the "
        f"same frozen models. {empty} of {len(paper.rows) * len(BENCHMARKS)} cells were not measured here: –.",
    )
    return Table(columns, tuple(rows), f"{SCENARIO_TITLES[scenario]}: the paper's cells and ours", notes)


def _heading(one: Comparison) -> str:
    own = paper_table_of(one.scenario.name)
    form = f"the paper's table {own.table}" if own else "in the form of the paper's tables 2, 7 and 8"
    return f"{one.scenario.title}: the paper's benchmarks, by lmms-eval — {form}"


def _lines(results: Results, one: Comparison) -> list[BenchmarkRow]:
    palette, asked = results.palette, results.study.benchmarks
    return [
        BenchmarkRow(
            entry.method.title,
            [r for run in entry.runs if (r := asked.get((one.scenario.name, run.method, run.seed))) is not None],
            entry.method.federated,
            name_cell(palette, entry.method.name, entry.method.title),
        )
        for entry in _entries(results, one)
    ]


def _entries(results: Results, one: Comparison) -> list[Entry]:
    order = list(results.study.methods)
    return sorted((*one.entries, *one.references), key=lambda entry: order.index(entry.method.name))
