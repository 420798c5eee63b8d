"""The charts of what the methods reach: final losses side by side, and every metric over the rounds."""

import math

from fedcmp.report.charts.dots import Dot, DotChart
from fedcmp.report.charts.lines import Level, Line, LineChart
from fedcmp.report.comparison import BLIND, Comparison
from fedcmp.report.methods import CAPTION_LOSS, METRICS, Metric, curve_split, reference_value
from fedcmp.report.panels import HALF, WIDE, Panel, cut_note
from fedcmp.runs.records import say_split


def loss_panel(comparison: Comparison) -> Panel | None:
    """Return the first screen's figure: every method's final caption loss between the blind LLM and pooled data."""
    palette = comparison.palette
    dots = []
    for method in comparison.methods:
        figure = method.value(CAPTION_LOSS)
        if figure is not None and math.isfinite(figure.mean):
            dots.append(
                Dot(
                    method.label,
                    figure.mean,
                    figure.spread,
                    palette.colour(method.label),
                    palette.marker(method.label),
                    strong=method is comparison.winner,
                    frame=method.name == "centralized",
                    free=method.name == "local",
                    owner=method.label,
                )
            )
    blind = reference_value(comparison.methods, BLIND, CAPTION_LOSS)
    if blind is not None and math.isfinite(blind.mean):
        dots.append(Dot("blind", blind.mean, blind.spread, palette.reference, "plus", frame=True))
    if not dots:
        return None
    dots.sort(key=lambda dot: dot.value)
    chart = DotChart("Final caption loss by method", tuple(dots), "nats per caption token", CAPTION_LOSS.write)
    bars = ", bars: ± standard deviation" if any(dot.spread for dot in dots) else ""
    return Panel("losses", "Caption loss on held-out pairs", f"lower is better{bars}", chart, HALF)


def curve_panels(comparison: Comparison) -> list[Panel]:
    """Return one panel per metric that was measured over rounds; caption loss takes the page's whole width."""
    split = curve_split(comparison.methods)
    panels = []
    for metric in METRICS:
        chart = curve_chart(comparison, metric, split)
        if chart is None:
            continue
        subtitle = f"{_unit(metric)}, {say_split(split)}, {metric.direction}"
        width = WIDE if metric is CAPTION_LOSS else HALF
        panels.append(Panel(metric.key, metric.title, subtitle, chart, width, cut_note(chart)))
    return panels


def _unit(metric: Metric) -> str:
    return "nats per caption token" if metric.unit == "nats/token" else metric.unit


def curve_chart(comparison: Comparison, metric: Metric, split: str) -> LineChart | None:
    """Return every method's curve in the metric's unit, with the blind LLM and the end of pooled training as levels.

    Returns:
        None where no method was measured over rounds.
    """
    palette = comparison.palette

    def write(value: float) -> str:
        return metric.write(value / metric.scale) + (" %" if metric.unit == "%" else "")

    lines, levels = [], []
    for method in comparison.methods:
        points = method.curve(metric, split)
        colour = palette.colour(method.label)
        if points:
            spreads = [(float(p.round), p.mean * metric.scale, p.spread * metric.scale) for p in points if p.spread]
            lines.append(
                Line(
                    method.label,
                    colour,
                    palette.marker(method.label),
                    tuple((float(point.round), point.mean * metric.scale) for point in points),
                    tuple((round_, mean - spread, mean + spread) for round_, mean, spread in spreads),
                    strong=method is comparison.winner,
                    dash=palette.dash(method.label),
                    owner=method.label,
                    free=method.name == "local" and metric.lower_is_better,
                )
            )
        figure = method.value(metric)
        if method.name == "centralized" and figure is not None and math.isfinite(figure.mean):
            end = figure.mean * metric.scale
            levels.append(Level(end, colour, "" if points else f"{method.label} {write(end)}"))
    if not lines:
        return None
    blind = reference_value(comparison.methods, BLIND, metric)
    if blind is not None and math.isfinite(blind.mean):
        level = blind.mean * metric.scale
        levels.append(Level(level, palette.reference, f"blind {write(level)}"))
    height = 380.0 if metric is CAPTION_LOSS else 320.0
    title = f"{metric.title} over rounds ({_unit(metric)})"
    return LineChart(title, tuple(lines), write, tuple(levels), least_height=height)
