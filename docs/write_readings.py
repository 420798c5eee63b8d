"""Write results/readings.md: the paper's rule in every reading that its text permits, and which of them train.

    python docs/write_readings.py        (fedcmp study recipes/readings.toml --pack results/readings.jsonl)

Everything is read from the packed study. A reading trains where its caption loss is below that of the LLM without
images by more than two standard errors of its seeds; how far is said as a share of what FedAvg gains.
"""

from collections.abc import Mapping
from pathlib import Path

from fedcmp.report.markdown import render_tables
from fedcmp.report.study import Results, load_study
from fedcmp.report.study.comparing import Entry
from fedcmp.report.study.metrics import CAPTION_LOSS, WORST_FAMILY, write_estimate
from fedcmp.report.tables import Cell, Column, Row, Table
from fedcmp.study.packing import unpacked

ROOT = Path(__file__).resolve().parents[1]
BEGINNING = """\
# The paper's rule in its readings

Written by `python docs/write_readings.py` from results/readings.jsonl (recipes/readings.toml). The paper's code is not
published that we found; every row is a reconstruction of ours. All figures are of the embedded toy world.
"""


def table_of(results: Results) -> Table:
    """Return one row per reading, the best first."""
    one, blind = results.comparisons[0], results.study.blind
    start = one.named("fedavg")
    rows = [_row(entry, start, None if blind is None else blind.values.get(CAPTION_LOSS.key)) for entry in one.entries]
    heads = (
        Column("Reading", numeric=False),
        Column("Trains", numeric=False),
        Column.of(CAPTION_LOSS),
        Column.of(WORST_FAMILY),
        Column("of FedAvg's gain"),
        Column("Rate"),
    )
    found = blind.values.get(CAPTION_LOSS.key) if blind is not None else None
    note = "± is the standard deviation over seeds." + (f" Without images: {found:.3f}." if found is not None else "")
    return Table(heads, tuple(rows), one.scenario.title, (note,))


def _row(entry: Entry, start: Entry | None, blind: float | None) -> Row:
    cells, estimates = [Cell(entry.method.title)], {}
    for metric in (CAPTION_LOSS, WORST_FAMILY):
        estimates[metric] = entry.estimate(metric.key)
    loss = estimates[CAPTION_LOSS]
    trains = loss is not None and loss.finite and blind is not None and loss.mean + 2 * (loss.error or 0.0) < blind
    cells.append(Cell("yes" if trains else "no"))
    for metric, estimate in estimates.items():
        text, spread = write_estimate(metric, estimate)
        cells.append(Cell(text, estimate.mean if estimate else None, spread))
    against = start.estimate(CAPTION_LOSS.key) if start is not None else None
    share = None
    if loss is not None and loss.finite and against is not None and blind is not None and blind > against.mean:
        share = (blind - loss.mean) / (blind - against.mean)
    cells.append(Cell("–") if share is None else Cell(f"{100 * share:.0f} %", share))
    rates = {_rate(run.settings) for run in entry.runs} - {None}
    return Row((*cells, Cell(", ".join(f"{rate:g}" for rate in sorted(filter(None, rates))) or "–")))


def _rate(settings: Mapping[str, object]) -> float | None:
    found = settings.get("learning_rate")
    return float(found) if isinstance(found, int | float) else None


def page(results: Results) -> str:
    """Return the whole page."""
    return render_tables(BEGINNING, [table_of(results)])


def read(published: Path) -> Results:
    """Return a packed study's comparisons."""
    with unpacked(published) as folder:
        return Results.of(load_study(folder))


if __name__ == "__main__":
    text = page(read(ROOT / "results" / "readings.jsonl"))
    (ROOT / "results" / "readings.md").write_text(text, encoding="utf-8")
