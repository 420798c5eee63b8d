"""How much of the distance between FedAvg and centralized training each method closes, per scenario, with error bars.

    share = (FedAvg - method) / (FedAvg - centralized)      of the caption loss, over the seeds that all three ran

0 % is FedAvg, 100 % is as good as pooled data, below 0 % is worse than FedAvg. Where centralized training is not below
FedAvg by more than two standard errors there is no distance to close, and nothing is shown.
"""

from dataclasses import replace

from fedcmp.report.charts.dots import Dot, DotChart
from fedcmp.report.methods import CAPTION_LOSS, Metric, write_number
from fedcmp.report.panels import HALF, Panel
from fedcmp.report.study.comparing import CENTRALIZED, FEDAVG, Comparison
from fedcmp.report.study.metrics import spread, write_estimate
from fedcmp.report.study.results import Results
from fedcmp.report.study.statistics import Estimate, distance_closed
from fedcmp.report.tables import Cell, Column, Row, Table, name_cell

CLOSED = Metric("distance_closed", "Distance closed", "%", False, 1, scale=100.0)
FAR_BELOW = -0.75  # a method that loses more than this share of the distance may lie outside a cut chart


def distances(one: Comparison) -> dict[str, Estimate]:
    """Return federated method -> share of the distance closed, FedAvg itself left out; best first."""
    start, end = one.named(FEDAVG), one.named(CENTRALIZED)
    if start is None or end is None:
        return {}
    key = CAPTION_LOSS.key
    found = {
        entry.method.name: distance_closed(entry.by_seed(key), start.by_seed(key), end.by_seed(key))
        for entry in one.entries
        if entry is not start
    }
    known = {name: estimate for name, estimate in found.items() if estimate is not None}
    return dict(sorted(known.items(), key=lambda item: -item[1].mean))


def distance_dots(results: Results, one: Comparison) -> list[Dot]:
    """Return one row per method, FedAvg at 0 and centralized at 1; empty without a distance."""
    palette = results.palette
    dots = []
    for name, estimate in distances(one).items():
        entry = one.named(name)
        if entry is not None:
            dots.append(
                Dot(
                    entry.method.title,
                    estimate.mean,
                    spread(estimate),
                    palette.colour(name),
                    palette.marker(name),
                    strong=entry is one.winner,
                    free=estimate.mean < FAR_BELOW,
                    owner=entry.method.title,
                )
            )
    if not dots:
        return []
    frames = ((CENTRALIZED, 1.0), (FEDAVG, 0.0))
    for name, share in frames:
        title = results.study.methods[name].title
        dots.append(Dot(title, share, None, palette.colour(name), palette.marker(name), frame=True, owner=title))
    return sorted(dots, key=lambda dot: -dot.value)


def distance_panel(results: Results, one: Comparison) -> Panel | None:
    """Return the figure of one scenario, None without a distance."""
    dots = distance_dots(results, one)
    if not dots:
        return None
    chart = DotChart(
        f"Distance from FedAvg to centralized closed, {one.scenario.title}",
        tuple(replace(dot, value=100 * dot.value, spread=dot.spread and 100 * dot.spread) for dot in dots),
        "% of the caption loss between FedAvg and centralized",
        lambda value: write_number(value, 0) + " %",
        cut_low=True,
        reach=1.15,
    )
    key = f"distance{results.comparisons.index(one)}"
    return Panel(
        key, one.scenario.title, "distance closed, higher is better, bars: ± standard deviation over seeds", chart, HALF
    )


def distance_table(results: Results) -> Table | None:
    """Return methods by scenarios; rows in the order of the mean over the scenarios shown."""
    columns = [(one, found) for one in results.comparisons if (found := distances(one))]
    names = [method for method in results.methods if any(method.name in found for _, found in columns)]
    if not names:
        return None
    best = {one.scenario.name: CLOSED.write(next(iter(found.values())).mean) for one, found in columns}
    shared = [[found[method.name].mean for _, found in columns if method.name in found] for method in names]
    order = sorted(range(len(names)), key=lambda index: -sum(shared[index]) / len(shared[index]))
    rows = []
    for method in (names[index] for index in order):
        cells = [name_cell(results.palette, method.name, method.title)]
        for one, found in columns:
            estimate = found.get(method.name)
            text, error = write_estimate(CLOSED, estimate)
            bold = len(found) > 1 and text == best[one.scenario.name]
            cells.append(Cell(text, estimate.mean if estimate else None, error, bold))
        rows.append(Row(tuple(cells), owner=method.title))
    heads = (Column("Method", numeric=False), *(Column(one.scenario.title, "%", better="high") for one, _ in columns))
    notes = (
        "Share of the caption loss between FedAvg (0 %) and centralized (100 %) that a method closes: the ratio "
        "of two means over common seeds, its spread by linearisation.",
    )
    return Table(heads, tuple(rows), "Distance from FedAvg to centralized closed", notes).with_spread_note()
