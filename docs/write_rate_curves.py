"""Write results/rate_curves.md and docs/images/rate_curves.png: final caption loss over the learning rate.

    python docs/write_rate_curves.py        (fedcmp study recipes/rates.toml --pack results/rates.jsonl)

Everything is read from the packed study, in which every method runs at every rate. Per method and size of run: the loss
at each rate, the rate that is best by the mean over seeds, and how much is lost at half and at twice that rate.
"""

from collections import defaultdict
from pathlib import Path

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt

from fedcmp.report.markdown import render_tables
from fedcmp.report.study import Results, load_study
from fedcmp.report.study.comparing import Comparison
from fedcmp.report.study.metrics import CAPTION_LOSS, write_estimate
from fedcmp.report.study.statistics import Estimate
from fedcmp.report.tables import Cell, Column, Row, Table
from fedcmp.study.packing import unpacked

ROOT = Path(__file__).resolve().parents[1]
BEGINNING = """\
# Final loss over the learning rate

Written by `python docs/write_rate_curves.py` from results/rates.jsonl (recipes/rates.toml). All figures are of
the embedded toy world.
"""
COLOURS = {
    "FedAvg": "#666666",
    "KnOTS-TIES": "#3a7ca5",
    "shared-basis without rho": "#c9a227",
    "shared-basis": "#0b6e4f",
}

Curve = dict[float, Estimate]  # rate -> caption loss over seeds


def curves(one: Comparison) -> dict[str, Curve]:
    """Return method -> its curve, rates ascending; a rate at which a run diverged has a mean that is not finite."""
    found: dict[str, Curve] = defaultdict(dict)
    for entry in one.entries:
        arm = entry.method.arms.get("rates")
        loss = entry.estimate(CAPTION_LOSS.key)
        if arm and loss is not None:
            found[str(arm["method"])][float(arm["rate"])] = loss
    return {method: dict(sorted(curve.items())) for method, curve in found.items()}


def best_rate(curve: Curve) -> float:
    """Return the rate of the lowest mean loss."""
    return min((rate for rate in curve if curve[rate].finite), key=lambda rate: curve[rate].mean)


def lost(curve: Curve, factor: float) -> float | None:
    """Return how much higher the loss is at `factor` times the best rate; None where that rate was not run.

    Rates of a recipe are rounded, so the nearest one within a tenth counts.
    """
    best = best_rate(curve)
    near = [rate for rate in curve if abs(rate / (factor * best) - 1) < 0.1]
    return curve[near[0]].mean - curve[best].mean if near else None


def table_of(one: Comparison) -> Table:
    """Return methods by rates, the best rate of each in bold, and what half and twice of it lose."""
    found = curves(one)
    rates = sorted({rate for curve in found.values() for rate in curve})
    rows = []
    for method, curve in found.items():
        best = best_rate(curve)
        cells = [Cell(method)]
        for rate in rates:
            text, spread = write_estimate(CAPTION_LOSS, curve.get(rate))
            cells.append(Cell(text, curve[rate].mean if rate in curve else None, spread, bold=rate == best))
        losses = [lost(curve, factor) for factor in (0.5, 2.0)]
        cells += [Cell("–") if value is None else Cell(f"{value:+.3f}", value) for value in losses]
        rows.append(Row(tuple(cells)))
    heads = (
        Column("Method", numeric=False),
        *(Column(f"{rate:g}") for rate in rates),
        Column("at half the best rate"),
        Column("at twice"),
    )
    note = (
        "Final caption loss, nats per token, mean ± standard deviation over seeds; the best rate of a method is bold."
    )
    return Table(heads, tuple(rows), one.scenario.title, (note,))


def page(results: Results) -> str:
    """Return the whole page."""
    return render_tables(BEGINNING, map(table_of, results.comparisons))


def draw(results: Results, out: Path) -> None:
    """Draw one panel a size of run, loss over rate."""
    count = len(results.comparisons)
    figure, axes = plt.subplots(1, count, figsize=(3.4 * count, 3.2), dpi=110, sharey=True, squeeze=False)
    for axis, one in zip(axes[0], results.comparisons, strict=True):
        for method, curve in curves(one).items():
            rates = [rate for rate in curve if curve[rate].finite]
            means = [curve[rate].mean for rate in rates]
            axis.plot(rates, means, marker="o", markersize=3.5, color=COLOURS.get(method), label=method)
        axis.set(xscale="log", title=one.scenario.title, xlabel="learning rate")
        axis.title.set_fontsize(9)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].set_ylabel("caption loss (toy world)")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=4, frameon=False, fontsize=8.5)
    figure.subplots_adjust(bottom=0.28, top=0.9, left=0.07, right=0.99)
    figure.savefig(out)
    plt.close(figure)


def read(published: Path) -> Results:
    """Return a packed study's comparisons."""
    with unpacked(published) as folder:
        return Results.of(load_study(folder))


if __name__ == "__main__":
    study = read(ROOT / "results" / "rates.jsonl")
    (ROOT / "results" / "rate_curves.md").write_text(page(study), encoding="utf-8")
    draw(study, ROOT / "docs" / "images" / "rate_curves.png")
