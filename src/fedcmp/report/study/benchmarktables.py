"""The paper's benchmarks of a study's runs: a table a scenario, in the form of the paper's own."""

from fedcmp.report.benchmarks import BenchmarkRow, table_of
from fedcmp.report.paper import paper_tables
from fedcmp.report.study.comparing import Comparison
from fedcmp.report.study.results import Results
from fedcmp.report.study.resulttables import ResultTable
from fedcmp.report.tables import name_cell


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


def _heading(one: Comparison) -> str:
    number = next((n for n, t in paper_tables().items() if n != "3" and t.scenario == one.scenario.name), None)
    form = f"the paper's table {number}" if number else "in the form of the paper's tables 2, 7 and 8"
    return f"{one.scenario.title}: the paper's benchmarks, by lmms-eval — {form}"


def _lines(results: Results, one: Comparison) -> list[BenchmarkRow]:
    order, palette = list(results.study.methods), results.palette
    entries = sorted((*one.entries, *one.references), key=lambda entry: order.index(entry.method.name))
    asked = results.study.benchmarks
    return [
        BenchmarkRow(
            entry.method.title,
            [r for run in entry.runs if (r := asked.get((one.scenario.name, run.method, run.seed))) is not None],
            entry.method.federated,
            name_cell(palette, entry.method.name, entry.method.title),
        )
        for entry in entries
    ]
