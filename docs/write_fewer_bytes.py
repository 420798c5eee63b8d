"""Write results/fewer_bytes.md: shared-basis with fewer bytes a round, its traffic and its loss beside FedAvg's.

    python docs/write_fewer_bytes.py        (fedcmp study recipes/fewer-bytes.toml --pack results/fewer-bytes.jsonl)

Everything is read from the packed study. Of the gain that shared-basis has over FedAvg, each way keeps a share: the
ratio of two means over common seeds (report/study/statistics.py).
"""

import statistics
from pathlib import Path

from fedcmp.report.markdown import render_tables
from fedcmp.report.study import Results, load_study
from fedcmp.report.study.comparing import Comparison, Entry
from fedcmp.report.study.metrics import CAPTION_LOSS, WORST_FAMILY, write_estimate
from fedcmp.report.study.statistics import distance_closed
from fedcmp.report.tables import Cell, Column, Row, Table
from fedcmp.study.packing import unpacked

ROOT = Path(__file__).resolve().parents[1]
BEGINNING = """\
# shared-basis at fewer bytes

Written by `python docs/write_fewer_bytes.py` from results/fewer-bytes.jsonl (recipes/fewer-bytes.toml). All figures are
of the embedded toy world.
"""


def sent(entry: Entry) -> float:
    """Return the bytes of a run, the mean over seeds; the opening round is counted in."""
    return statistics.fmean(run.bytes_sent for run in entry.runs if run.bytes_sent)


def table_of(one: Comparison) -> Table:
    """Return one row per method, the fewest bytes first."""
    start, end = one.named("fedavg"), one.named("shared-basis")
    key, rows = CAPTION_LOSS.key, []
    for entry in sorted(one.entries, key=sent):
        share = None
        if start is not None and end is not None:
            share = distance_closed(entry.by_seed(key), start.by_seed(key), end.by_seed(key))
        cells = [Cell(entry.method.title), Cell(f"{sent(entry) / 1e6:.1f}", sent(entry))]
        cells.append(Cell("–") if start is None else Cell(f"{sent(entry) / sent(start):.2f}"))
        for metric in (CAPTION_LOSS, WORST_FAMILY):
            estimate = entry.estimate(metric.key)
            text, spread = write_estimate(metric, estimate)
            cells.append(Cell(text, estimate.mean if estimate else None, spread))
        told = "–" if share is None else f"{100 * share.mean:.0f} %"
        told += "" if share is None or share.error is None else f" ± {100 * share.error:.0f}"
        rows.append(Row((*cells, Cell(told))))
    heads = (
        Column("Method", numeric=False),
        Column("Traffic", "MB"),
        Column("over FedAvg's"),
        Column.of(CAPTION_LOSS),
        Column.of(WORST_FAMILY),
        Column("of the gain"),
    )
    note = "± is the standard deviation of a loss over seeds, the standard error of a share."
    return Table(heads, tuple(rows), one.scenario.title, (note,))


def page(results: Results) -> str:
    """Return the whole page."""
    return render_tables(BEGINNING, map(table_of, results.comparisons))


def read(published: Path) -> Results:
    """Return a packed study's comparisons."""
    with unpacked(published) as folder:
        return Results.of(load_study(folder))


if __name__ == "__main__":
    text = page(read(ROOT / "results" / "fewer-bytes.jsonl"))
    (ROOT / "results" / "fewer_bytes.md").write_text(text, encoding="utf-8")
