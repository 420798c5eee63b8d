"""Figure 4 of the paper: every metric over the rounds, mean over seeds with their standard deviation as a band.

A few methods are drawn in colour, the same in all charts; the other federated ones are a grey bundle behind them. How
restless a curve is, is a number: the sum of what the metric lost from one evaluated round to the next (a rise of a
loss, a drop of a score), per seed, then mean and standard deviation over seeds. A curve that only improves has 0.
"""

import math
from collections.abc import Mapping
from dataclasses import replace

from fedcmp.report.charts.lines import Level, Line, LineChart
from fedcmp.report.methods import CAPTION_LOSS, Metric, best_written
from fedcmp.report.panels import WIDE, Panel, cut_note, small_panel
from fedcmp.report.study.comparing import CENTRALIZED, LOCAL, Comparison, Entry
from fedcmp.report.study.metrics import QUESTIONS, SUITES, WORST_FAMILY, spread, write_estimate
from fedcmp.report.study.results import Results
from fedcmp.report.study.statistics import Estimate, oscillation
from fedcmp.report.tables import Cell, Column, Row, Table, name_cell
from fedcmp.runs.study_records import StudyRun

CURVES = (CAPTION_LOSS, WORST_FAMILY, QUESTIONS, *SUITES)
_GREY = "Grey: the other federated methods; their numbers are in the tables."


def trajectory(entry: Entry, key: str) -> dict[int, Estimate]:
    """Round -> estimate over the seeds that were followed over rounds, for rounds that all of these have."""
    curves = [curve for run in entry.runs if (curve := _curve(run, key))]
    curves = [curve for curve in curves if len(curve) > 1] or curves
    shared = [round_ for round_ in (curves[0] if curves else {}) if all(round_ in curve for curve in curves)]
    found = {round_: Estimate.of([curve[round_] for curve in curves]) for round_ in shared}
    return {round_: estimate for round_, estimate in found.items() if estimate.finite}


def _curve(run: StudyRun, key: str) -> Mapping[int, float]:
    return {point.round: point.values[key] for point in run.points if key in point.values}


def oscillations(entry: Entry, metric: Metric) -> Estimate | None:
    """Return the summed losses of ground of one method, over seeds; None where fewer than two rounds were evaluated."""
    curves = [list(curve.values()) for run in entry.runs if len(curve := _curve(run, metric.key)) > 1]
    if not curves:
        return None
    if not all(math.isfinite(value) for curve in curves for value in curve):
        return Estimate(math.nan, None, len(curves))
    return Estimate.of([oscillation(curve, higher_is_better=not metric.lower_is_better) for curve in curves])


def trajectory_chart(results: Results, one: Comparison, metric: Metric) -> LineChart | None:
    """Return one metric over the rounds in one scenario; None where no method was evaluated at two rounds."""
    palette, featured = results.palette, results.featured
    lines: list[Line] = []
    levels: list[Level] = []

    def write(value: float) -> str:
        return metric.write(value) + (" %" if metric.unit == "%" else "")

    ordered = sorted(one.entries, key=lambda entry: entry.method.name in featured)  # the grey bundle lies below
    for entry in (*ordered, *one.references):
        points = trajectory(entry, metric.key)
        name, title = entry.method.name, entry.method.title
        colour = palette.colour(name)
        if name == CENTRALIZED and points:
            end = points[max(points)].mean
            levels.append(Level(end, colour, f"{title} {write(end)}"))
        elif len(points) > 1 and entry.method.federated:
            lines.append(
                Line(
                    title,
                    colour if name in featured else "var(--bundle)",
                    palette.marker(name),
                    tuple((float(round_), estimate.mean) for round_, estimate in points.items()),
                    _band(points) if name in featured else (),
                    strong=entry is one.winner and name in featured,
                    named=name in featured,
                    free=metric.lower_is_better and _far(one, entry, metric),
                    dash=palette.dash(name) if name in featured else 0,
                    owner=title,
                )
            )
    if not any(line.named for line in lines):
        return None
    blind = one.blind.values.get(metric.key) if one.blind is not None else None
    if blind is not None and math.isfinite(blind):
        levels.append(Level(blind, palette.reference, f"blind {write(blind)}"))
    title = f"{metric.title} over rounds, {one.scenario.title}"
    return LineChart(title, tuple(lines), write, tuple(levels), least_height=380.0)


def _band(points: Mapping[int, Estimate]) -> tuple[tuple[float, float, float], ...]:
    return tuple((float(r), e.mean - s, e.mean + s) for r, e in points.items() if (s := spread(e)) is not None)


def _far(one: Comparison, entry: Entry, metric: Metric) -> bool:
    """Whether a method ends above the blind LLM: it may run out of a cut chart."""
    blind = one.blind.values.get(metric.key) if one.blind is not None else None
    estimate = entry.estimate(metric.key)
    return blind is not None and (estimate is None or not estimate.mean <= blind)


def trajectory_panels(results: Results, one: Comparison) -> tuple[Panel | None, list[Panel]]:
    """Return the caption loss as a large figure, and every other metric evaluated over rounds as a small one."""
    place = results.comparisons.index(one)
    chart = trajectory_chart(results, one, CAPTION_LOSS)
    large = None
    if chart is not None:
        grey = any(not line.named for line in chart.lines)
        note = " ".join(text for text in (_GREY if grey else "", cut_note(chart)) if text)
        subtitle = "nats per caption token, lower is better, mean over seeds, band: ± standard deviation over seeds"
        large = Panel(f"curve{place}", CAPTION_LOSS.title, subtitle, chart, WIDE, note)
    small = []
    for metric in CURVES[1:]:
        chart = trajectory_chart(results, one, metric)
        if chart is not None:
            bare = replace(chart, levels=tuple(replace(level, label="") for level in chart.levels))
            small.append(
                small_panel(f"curve{place}-{metric.key}", metric.title, f"{metric.unit}, {metric.direction}", bare)
            )
    return large, small


def oscillation_table(results: Results, one: Comparison) -> Table | None:
    """Say how much ground each method lost on the way, by metric; the steadiest federated method in bold."""
    palette = results.palette
    entries = [entry for entry in (*one.entries, *one.references) if entry.method.name != LOCAL]
    found = {metric.key: {e.method.name: oscillations(e, metric) for e in entries} for metric in CURVES}
    metrics = [metric for metric in CURVES if any(found[metric.key].values())]
    if not metrics:
        return None
    steadiest = {metric.key: _steadiest(one, found[metric.key], metric) for metric in metrics}
    rows = []
    for entry in entries:
        name = entry.method.name
        cells = [name_cell(palette, name, entry.method.title)]
        for metric in metrics:
            estimate = found[metric.key][name]
            text, error = write_estimate(metric, estimate)
            bold = entry.method.federated and text == steadiest[metric.key]
            cells.append(Cell(text, estimate.mean if estimate and estimate.finite else None, error, bold))
        rows.append(Row(tuple(cells), reference=not entry.method.federated, owner=entry.method.title))
    columns = [Column("Method", numeric=False)]
    columns += [
        Column(metric.title, "nats" if metric.unit == "nats/token" else metric.unit, better="low") for metric in metrics
    ]
    notes = (
        "Sum of what the metric lost from one evaluated round to the next (losses: rises, suites: drops), mean ± "
        "standard deviation over seeds; 0 for a curve that only improves. "
        "It depends on how many rounds were evaluated.",
    )
    caption = f"Oscillation, {one.scenario.title}"
    return Table(tuple(columns), tuple(rows), caption, notes, apart=True, stacked=True)


def _steadiest(one: Comparison, found: Mapping[str, Estimate | None], metric: Metric) -> str:
    estimates = [found[entry.method.name] for entry in one.entries]
    least = replace(metric, lower_is_better=True)  # of what was lost on the way, less is better for any metric
    return next(iter(best_written(least, (lost.mean for lost in estimates if lost is not None))), "")
