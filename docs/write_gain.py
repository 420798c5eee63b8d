"""Write results/gain.md and docs/images/gain.png: what the gain over FedAvg is made of.

    python docs/write_gain.py        (fedcmp study recipes/factorial.toml --pack results/factorial.jsonl)

Everything is read from the packed study. Its methods say in `arms` what they are: a step and a server rule, a control
of the basis, or a ceiling. From FedAvg down to pooled data the caption loss falls in five stages:
    FedAvg -> canonical steps, each client in its own basis -> all in one basis -> the whole rule -> pooled data, the
    same step, a client's batch
Each stage's share is its difference over the whole, as a ratio of means over common seeds (report/study/statistics.py).
"""

import statistics
from collections.abc import Mapping
from pathlib import Path

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt

from fedcmp.report.markdown import render_tables
from fedcmp.report.methods import Metric
from fedcmp.report.study import Results, load_study
from fedcmp.report.study.comparing import Comparison, Entry
from fedcmp.report.study.metrics import CAPTION_LOSS, WORST_FAMILY, write_estimate
from fedcmp.report.study.statistics import Estimate, PairedDifference, distance_closed
from fedcmp.report.tables import Cell, Column, Row, Table
from fedcmp.study.packing import unpacked

ROOT = Path(__file__).resolve().parents[1]
BEGINNING = """\
# What the gain is made of

Written by `python docs/write_gain.py` from results/factorial.jsonl (recipes/factorial.toml). All figures are of the
embedded toy world.
"""
STAGES = (  # method, what is new in it
    ("fedavg", "FedAvg: AdamW, mean"),
    ("basis-own", "canonical steps, each client in its own basis"),
    ("canonical", "all clients in one shared basis"),
    ("shared-basis", "shared-basis: its server rule as well"),
    ("centralized-with-canonical", "pooled data, the same step, a client's batch"),
)
CEILINGS = (
    "centralized",
    "centralized-with-canonical",
    "centralized-large-batch",
    "centralized-large-batch-with-canonical",
)
MAIN = ("image", "cross")
COLOURS = ("#c9a227", "#3a7ca5", "#0b6e4f", "#cccccc")


def page(results: Results) -> str:
    """Return the whole page."""
    tables = []
    for one in results.comparisons:
        if one.scenario.name in MAIN:
            tables += [grid(one, CAPTION_LOSS), grid(one, WORST_FAMILY), controls(one), stages(one), ceilings(one)]
    tables.append(local_steps(results))
    return render_tables(BEGINNING, tables)


def _arm(entry: Entry, table: str) -> Mapping[str, object]:
    found = entry.method.arms.get(table, {})
    return found if isinstance(found, Mapping) else {}


def _written(metric: Metric, entry: Entry | None) -> Cell:
    estimate = entry.estimate(metric.key) if entry is not None else None
    text, spread = write_estimate(metric, estimate)
    return Cell(text, estimate.mean if estimate else None, spread)


def grid(one: Comparison, metric: Metric) -> Table:
    """Return steps by server rules: the final figure, its deviation over seeds; the best of all in bold."""
    cells = {}
    for entry in one.entries:
        arm = _arm(entry, "factorial")
        if arm:
            cells[str(arm["step"]), str(arm["server"])] = _written(metric, entry)
    known = [cell.value for cell in cells.values() if cell.value is not None]
    steps, servers = list(dict.fromkeys(step for step, _ in cells)), list(dict.fromkeys(rule for _, rule in cells))
    rows = []
    for step in steps:
        line = [cells.get((step, rule), Cell("–")) for rule in servers]
        best = [Cell(c.text, c.value, c.detail, bold=bool(known) and c.value == min(known)) for c in line]
        rows.append(Row((Cell(step), *best)))
    heads = (Column("Client step", numeric=False), *(Column(rule) for rule in servers))
    caption = f"{one.scenario.title}: {metric.title.lower()}, client step by server rule"
    notes = (
        f"Final {metric.title.lower()} in {metric.unit}, mean ± standard deviation over seeds; lower is better. A "
        "step's rate was tuned with the mean as server rule. A dash: not run.",
    )
    return Table(heads, tuple(rows), caption, notes)


def controls(one: Comparison) -> Table:
    """Return the bases that canonical steps could be taken in, with the mean as server rule."""
    rows = []
    for entry in one.entries:
        arm = _arm(entry, "basis")
        if arm:
            against = one.named("canonical")
            gap = None
            if against is not None and entry is not against:
                gap = PairedDifference.between(against.by_seed(CAPTION_LOSS.key), entry.by_seed(CAPTION_LOSS.key))
            told = (
                Cell("–")
                if gap is None
                else Cell(f"{gap.mean:+.4f}", gap.mean, "" if gap.error is None else f"± {gap.error:.4f}")
            )
            name = Cell(str(arm["basis"]))
            rows.append(Row((name, _written(CAPTION_LOSS, entry), _written(WORST_FAMILY, entry), told)))
    heads = (
        Column("Basis", numeric=False),
        Column.of(CAPTION_LOSS),
        Column.of(WORST_FAMILY),
        Column("Above the shared basis", "nats/token"),
    )
    note = "Mean ± standard deviation over seeds; the difference to the shared basis is paired, ± its standard error."
    return Table(
        heads, tuple(rows), f"{one.scenario.title}: canonical steps in other bases, mean of projectors", (note,)
    )


def shares(one: Comparison) -> list[tuple[str, Estimate, Estimate | None]]:
    """Return the stages: what is new, the loss, and which share of FedAvg's distance to the last stage it closes."""
    entries = [(one.named(name), title) for name, title in STAGES]
    if any(entry is None for entry, _ in entries):
        return []
    key = CAPTION_LOSS.key
    losses = [(entry.by_seed(key), title) for entry, title in entries if entry is not None]
    (start, _), (end, _) = losses[0], losses[-1]
    out: list[tuple[str, Estimate, Estimate | None]] = []
    for number, (loss, title) in enumerate(losses):
        share = None
        if number:
            before = losses[number - 1][0]
            common = loss.keys() & before.keys() & start.keys() & end.keys()
            step = {seed: start[seed] - (before[seed] - loss[seed]) for seed in common}
            share = distance_closed(step, start, end)
        out.append((title, Estimate.of(list(loss.values())), share))
    return out


def stages(one: Comparison) -> Table:
    """Return the stages from FedAvg to pooled data as a table."""
    rows = []
    for title, loss, share in shares(one):
        text, spread = write_estimate(CAPTION_LOSS, loss)
        error = f"± {100 * share.error:.0f}" if share is not None and share.error is not None else ""
        told = Cell("–") if share is None else Cell(f"{100 * share.mean:.0f} %", share.mean, error)
        rows.append(Row((Cell(title), Cell(text, loss.mean, spread), told)))
    heads = (Column("Stage", numeric=False), Column.of(CAPTION_LOSS), Column("Share of the distance"))
    note = (
        "Losses: mean ± standard deviation over seeds. Shares: of FedAvg's distance to the last row, ± standard error; "
        "the last row's is what is left."
    )
    return Table(heads, tuple(rows), f"{one.scenario.title}: from FedAvg to pooled data", (note,))


def ceilings(one: Comparison) -> Table:
    """Return what share of FedAvg's distance to each ceiling shared-basis and the best rival close."""
    start, ours = one.named("fedavg"), one.named("shared-basis")
    others = [entry for entry in one.entries if entry.method.family != "ours"]
    if start is None or ours is None or not others:
        return Table((), ())
    rows = []
    for name in CEILINGS:
        end = one.named(name)
        if end is None:
            continue
        key = CAPTION_LOSS.key
        found = [distance_closed(e.by_seed(key), start.by_seed(key), end.by_seed(key)) for e in (ours, others[0])]
        told = [
            Cell("–")
            if f is None
            else Cell(f"{100 * f.mean:.0f} %", f.mean, "" if f.error is None else f"± {100 * f.error:.0f}")
            for f in found
        ]
        rows.append(Row((Cell(end.method.title), _written(CAPTION_LOSS, end), *told)))
    heads = (
        Column("Ceiling", numeric=False),
        Column.of(CAPTION_LOSS),
        Column("closed by shared-basis"),
        Column(f"closed by {others[0].method.title}"),
    )
    note = "± is the standard deviation of a loss over seeds, the standard error of a share. The rival is the best one."
    return Table(heads, tuple(rows), f"{one.scenario.title}: how far to which ceiling", (note,))


def local_steps(results: Results) -> Table:
    """Return FedAvg and shared-basis with the same pairs in more or fewer rounds, and their traffic."""
    rows = []
    for one in results.comparisons:
        if one.scenario.name != "image" and not one.scenario.name.startswith("image-"):
            continue
        for name in ("fedavg", "shared-basis"):
            entry = one.named(name)
            if entry is None:
                continue
            sent = [run.bytes_sent for run in entry.runs if run.bytes_sent]
            told = Cell(f"{statistics.fmean(sent) / 1e6:.0f}", statistics.fmean(sent)) if sent else Cell("–")
            losses = (_written(CAPTION_LOSS, entry), _written(WORST_FAMILY, entry))
            rows.append(Row((Cell(one.scenario.title), Cell(entry.method.title), *losses, told)))
    heads = (
        Column("Scenario", numeric=False),
        Column("Method", numeric=False),
        Column.of(CAPTION_LOSS),
        Column.of(WORST_FAMILY),
        Column("Traffic", "MB"),
    )
    note = "Mean ± standard deviation over seeds, rates as tuned with 20 local steps a round; each pair is seen once."
    return Table(heads, tuple(rows), "The same pairs in more, shorter rounds", (note,))


def draw(results: Results, out: Path) -> None:
    """Draw the stages of both scenarios as stacked bars."""
    found = [(one.scenario.title, shares(one)) for one in results.comparisons if one.scenario.name in MAIN]
    found = [(title, rows) for title, rows in found if rows and all(share for _, _, share in rows[1:])]
    figure, axis = plt.subplots(figsize=(9, 1.3 + 0.75 * len(found)), dpi=110)
    for row, (_, rows) in enumerate(found):
        left = 0.0
        for (told, _, share), colour in zip(rows[1:], COLOURS, strict=True):
            assert share is not None
            width = 100 * share.mean
            axis.barh(row, width, left=left, color=colour, edgecolor="white", label=told if row == 0 else None)
            axis.text(left + width / 2, row, f"{width:.0f} %", ha="center", va="center", size=9)
            left += width
    axis.set_yticks(range(len(found)), [title for title, _ in found])
    axis.set_xlabel("% of FedAvg's distance to pooled data with the same step (caption loss, toy world)")
    axis.invert_yaxis()
    axis.spines[["top", "right", "left"]].set_visible(False)
    figure.legend(loc="upper center", ncols=2, frameon=False, fontsize=8.5)
    figure.subplots_adjust(top=0.72, bottom=0.25, left=0.16, right=0.97)
    figure.savefig(out)
    plt.close(figure)


def read(published: Path) -> Results:
    """Return a packed study's comparisons."""
    with unpacked(published) as folder:
        return Results.of(load_study(folder))


if __name__ == "__main__":
    study = read(ROOT / "results" / "factorial.jsonl")
    (ROOT / "results" / "gain.md").write_text(page(study), encoding="utf-8")
    draw(study, ROOT / "docs" / "images" / "gain.png")
