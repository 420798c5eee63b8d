"""Paired tests of our method against every other federated one, by caption loss, worst family and worst client.

Each is the two-sided paired t-test over the seeds that both ran, Holm-corrected over all rivals of one scenario and
metric (statistics.py). Unlike the p-values next to the methods, they do not depend on which method came out best.
"""

from fedcmp.report.study.comparing import OURS, Comparison, corrected
from fedcmp.report.study.metrics import TESTED, write_difference, write_p
from fedcmp.report.study.results import Results
from fedcmp.report.tables import Cell, Column, Row, Table, name_cell

_NOTE = (
    "Rival minus ours: above 0 where ours is lower. Mean over common seeds, its standard error in the cell, p of the "
    "two-sided paired t-test, Holm-corrected over the rivals of one scenario and metric. Bold: ours is lower, p < 0.05."
)
_ALPHA = 0.05


def paired_tests_table(results: Results) -> Table | None:
    """Return scenarios and rivals by metrics; None where ours and a rival have no two seeds in common."""
    rows = [row for one in results.comparisons for row in _rows(results, one)]
    if not rows:
        return None
    title = results.study.methods[OURS].title
    columns = [Column("Scenario", numeric=False), Column("Rival", numeric=False)]
    for metric in TESTED:
        columns += [Column(f"{metric.title}: rival minus ours", "nats"), Column("p")]
    table = Table(
        tuple(columns), tuple(rows), f"{title} against every other method, seed by seed", (_NOTE,), stacked=True
    )
    return table.without_empty_columns()


def _rows(results: Results, one: Comparison) -> list[Row]:
    ours = one.named(OURS)
    if ours is None:
        return []
    found = {metric.key: one.differences(ours, metric.key) for metric in TESTED}
    tested = {key: corrected(differences) for key, differences in found.items()}
    rows = []
    for entry in one.entries:
        name = entry.method.name
        if all((gap := by_name.get(name)) is None or gap.error is None for by_name in found.values()):
            continue
        cells = [Cell(one.scenario.title), name_cell(results.palette, name, entry.method.title)]
        for metric in TESTED:
            gap, p = found[metric.key][name], tested[metric.key][name]
            if gap is None or gap.error is None:
                cells += [Cell("–"), Cell("–")]
                continue
            better = p is not None and p < _ALPHA and gap.mean > 0
            told = write_difference(metric, gap.mean, sign=True)
            cells.append(Cell(told, gap.mean, f"(standard error {write_difference(metric, gap.error)})", bold=better))
            cells.append(Cell(write_p(p), p))
        rows.append(Row(tuple(cells), owner=entry.method.title))
    return rows
