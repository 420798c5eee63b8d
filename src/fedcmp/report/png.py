"""The same figures as PNG files by matplotlib, for papers and README files; no state is shared, no display needed."""

import math

from matplotlib.figure import Figure as Canvas

from fedcmp.report.canvas import DASHES, MARKS, End, finish, png, short
from fedcmp.report.methods import METRICS, Method, Metric, curve_split, reference_figure
from fedcmp.report.palette import CLIENT_COLOURS, MARKERS, REFERENCE_COLOUR
from fedcmp.report.scale import cut_range, lower_part, padded_range
from fedcmp.report.summary import BLIND, Comparison

_WEIGHTS = "client_weights.png"
PNG_NAMES = (*(f"{metric.key}.png" for metric in METRICS), _WEIGHTS)


def png_files(comparison: Comparison) -> dict[str, bytes]:
    """Draw one file a metric that was measured, and one of the clients' weights.

    Returns:
        File name (one of PNG_NAMES) -> content; the same runs give the same bytes, no date or version is written.
    """
    split = curve_split(comparison.methods)
    drawn = {f"{metric.key}.png": _curves(comparison, metric, split) for metric in METRICS}
    drawn[_WEIGHTS] = _weights(comparison)
    return {name: content for name, content in drawn.items() if content is not None}


def _curves(comparison: Comparison, metric: Metric, split: str) -> bytes | None:
    palette, scale = comparison.palette, metric.scale
    curves = [(method, method.curve(metric, split)) for method in comparison.methods]
    curves = [(method, points) for method, points in curves if points]
    if not curves:
        return None
    canvas = Canvas(figsize=(6.4, 3.8), layout="constrained")
    axes = canvas.add_subplot()
    ends: list[End] = []
    values: list[float] = []
    anchors: list[float] = []
    firm: list[float] = []

    def level(value: float, colour: str) -> None:
        anchors.append(value)
        axes.axhline(value, color=colour, linewidth=0.8, linestyle=DASHES)

    for method, points in curves:
        colour, mark = palette.light(method.label), MARKS[palette.marker(method.label)]
        rounds, means = [point.round for point in points], [point.mean * scale for point in points]
        spreads = [(point.spread or 0.0) * scale for point in points]
        width = 2.4 if method is comparison.best else 1.6
        axes.plot(rounds, means, color=colour, marker=mark, markersize=4, linewidth=width)
        if any(spreads):
            low = [mean - spread for mean, spread in zip(means, spreads, strict=True)]
            high = [mean + spread for mean, spread in zip(means, spreads, strict=True)]
            axes.fill_between(rounds, low, high, color=colour, alpha=0.15, linewidth=0)
        ends.append(End(means[-1], f"{short(method.label)} {metric.write(means[-1] / scale)}", colour))
        values += means
        if method.name != "local":
            anchors.append(means[-1])
            firm += means
        if method.name == "centralized":
            level(means[-1], colour)
    blind = reference_figure(comparison.methods, BLIND, metric)
    if blind is not None and math.isfinite(blind.mean):
        level(blind.mean * scale, REFERENCE_COLOUR)
        ends.append(End(blind.mean * scale, f"blind {metric.write(blind.mean)}", REFERENCE_COLOUR))
    anchors += lower_part(firm)
    limits = cut_range(values + anchors, anchors) if metric.lower_is_better else padded_range(values + anchors)
    unit = "nats per caption token" if metric.unit == "nats/token" else metric.unit
    finish(canvas, axes, ends, f"{metric.title} ({unit})", limits)
    return png(canvas)


def _weights(comparison: Comparison) -> bytes | None:
    shown = [(method, _shares(method)) for method in comparison.federated]
    shown = [(method, shares) for method, shares in shown if shares]
    if not shown:
        return None
    limits = padded_range([share for _, shares in shown for points in shares.values() for _, share in points])
    columns = min(3, len(shown))
    rows = math.ceil(len(shown) / columns)
    canvas = Canvas(figsize=(3.6 * columns, 2.6 * rows), layout="constrained")
    for index, (method, shares) in enumerate(shown):
        axes = canvas.add_subplot(rows, columns, index + 1)
        ends = []
        for (client, name), points in shares.items():
            colour, mark = CLIENT_COLOURS[client % len(CLIENT_COLOURS)], MARKS[MARKERS[client % len(MARKERS)]]
            axes.plot(*zip(*points, strict=True), color=colour, marker=mark, markersize=3, linewidth=1.2)
            ends.append(End(points[-1][1], short(name), colour))
        named = ends if len(ends) <= len(CLIENT_COLOURS) else []
        finish(canvas, axes, named, f"{short(method.label)}: clients' weights (%)", limits)
    return png(canvas)


def _shares(method: Method) -> dict[tuple[int, str], list[tuple[int, float]]]:
    """(client, name) -> (round, weight in %), of the method's first run."""
    shares: dict[tuple[int, str], list[tuple[int, float]]] = {}
    for record in method.counted[0].client_rounds:
        if record.weight is not None and math.isfinite(record.weight):
            shares.setdefault((record.client, record.name), []).append((record.round, 100 * record.weight))
    return shares
