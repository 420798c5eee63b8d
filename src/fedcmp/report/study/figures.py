"""The study's figures as PNG files: trajectories, the distance closed, the maps; one picture a scenario in each.

The suites' trajectories are drawn for the headline scenario only; the page has them all.
"""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from fedcmp.report.canvas import DASHES, MARKS, End, finish, frame, png, short
from fedcmp.report.dotchart import Dot
from fedcmp.report.linechart import LineChart
from fedcmp.report.methods import CAPTION_LOSS
from fedcmp.report.palette import CLIENT_COLOURS, METHOD_COLOURS, REFERENCE_COLOUR
from fedcmp.report.scale import padded_range
from fedcmp.report.study.distances import CLOSED, FAR_BELOW, distance_dots
from fedcmp.report.study.maps import finite_points, mapped
from fedcmp.report.study.results import Results
from fedcmp.report.study.trajectories import CURVES, trajectory_chart

LOSS, SUITES, DISTANCE, MAPS = "trajectories.png", "trajectories-suites.png", "distance-closed.png", "maps.png"
PNG_NAMES = (LOSS, SUITES, DISTANCE, MAPS)
_GREY = "#b9c0c7"
_COLUMNS = 3


def study_pngs(results: Results) -> dict[str, bytes]:
    """Draw every figure for which there are figures.

    Returns:
        File name (one of PNG_NAMES) -> content; the same study gives the same bytes.
    """
    found = {}
    headline = [results.headline] if results.headline is not None else []
    losses = [trajectory_chart(results, one, CAPTION_LOSS) for one in results.comparisons]
    others = [trajectory_chart(results, one, metric) for one in headline for metric in CURVES if metric != CAPTION_LOSS]
    for name, charts in ((LOSS, losses), (SUITES, others)):
        drawn = [chart for chart in charts if chart is not None]
        if drawn:
            found[name] = _trajectories(drawn)
    panels = [(one.scenario.title, dots) for one in results.comparisons if (dots := distance_dots(results, one))]
    if panels:
        found[DISTANCE] = _distances(panels)
    if mapped(results):
        found[MAPS] = _maps(results)
    return found


def _light(colour: str) -> str:
    """The light value of a CSS variable of the style sheet."""
    if colour.startswith("var(--m"):
        return METHOD_COLOURS[int(colour[len("var(--m") : -1])]
    return REFERENCE_COLOUR if colour == "var(--reference)" else _GREY


def _grid(count: int, width: float, height: float, columns: int = _COLUMNS) -> tuple[Canvas, list[Axes]]:
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    canvas = Canvas(figsize=(width * columns, height * rows), layout="constrained")
    return canvas, [canvas.add_subplot(rows, columns, index + 1) for index in range(count)]


def _trajectories(charts: Sequence[LineChart]) -> bytes:
    canvas, all_axes = _grid(len(charts), 5.2, 3.4, columns=2)
    for chart, axes in zip(charts, all_axes, strict=True):
        ends = []
        for line in chart.lines:
            colour = _light(line.colour)
            rounds, means = zip(*line.points, strict=True)
            mark = MARKS[line.marker] if line.named else None
            axes.plot(rounds, means, color=colour, marker=mark, markersize=3.5, linewidth=2.2 if line.strong else 1.3)
            if line.band:
                xs, low, high = zip(*line.band, strict=True)
                axes.fill_between(xs, low, high, color=colour, alpha=0.15, linewidth=0)
            if line.named:
                ends.append(End(means[-1], f"{short(line.label)} {chart.write(means[-1])}", colour))
        for level in chart.levels:
            axes.axhline(level.value, color=_light(level.colour), linewidth=0.8, linestyle=DASHES)
            ends.append(End(level.value, level.label, _light(level.colour)))
        finish(canvas, axes, ends, chart.title, chart.range)
    return png(canvas)


def _distances(panels: Sequence[tuple[str, list[Dot]]]) -> bytes:
    tallest = max(len(dots) for _, dots in panels)
    canvas, all_axes = _grid(len(panels), 4.4, 1.0 + 0.21 * tallest)
    for (title, dots), axes in zip(panels, all_axes, strict=True):
        shown = [dot for dot in dots if not dot.free] or dots
        edges = [100 * (dot.value + side * (dot.spread or 0.0)) for dot in shown for side in (-1, 1)]
        low, high = padded_range(edges)
        for place, dot in enumerate(reversed(dots)):
            colour, value = _light(dot.colour), 100 * dot.value
            if dot.frame:
                axes.axvline(value, color=colour, linewidth=0.8, linestyle=DASHES)
            is_cut = value < low  # its label says where it is; an error bar there would run over the label
            error = 0.0 if dot.spread is None or is_cut else 100 * dot.spread
            axes.errorbar(
                max(value, low), place, xerr=error, color=colour, marker=MARKS[dot.marker], markersize=5, clip_on=False
            )
        labels = [short(d.label) + (f" {CLOSED.write(d.value)} % ←" if d.value < FAR_BELOW else "") for d in dots]
        axes.set_yticks(range(len(dots)), labels=labels[::-1], parse_math=False)
        axes.set_xlim(low, high)
        axes.set_xlabel("% of FedAvg to centralized", fontsize=8)
        frame(axes, title)
        axes.grid(axis="x", linewidth=0.4, alpha=0.5)
    return png(canvas)


def _maps(results: Results) -> bytes:
    known = mapped(results)
    canvas, all_axes = _grid(len(known), 3.2, 3.3)
    for (scenario, holding), axes in zip(known, all_axes, strict=True):
        points = finite_points(holding)
        for client in sorted({client for _, _, client in points}):
            xs, ys = zip(*((x, y) for x, y, holder in points if holder == client), strict=True)
            axes.scatter(xs, ys, s=4, color=CLIENT_COLOURS[client % len(CLIENT_COLOURS)], linewidths=0)
        axes.set_aspect("equal")
        axes.set_axis_off()
        frame(axes, scenario.title)
    return png(canvas)
