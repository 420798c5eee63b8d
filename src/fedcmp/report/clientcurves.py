"""Small multiples of what clients do: training loss, alignment error, update norm, weight.

One panel a method, all panels of a measure on one scale. A method with several seeds shows its first one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from fedcmp.references import reference_of
from fedcmp.report.charts.lines import Level, Line, LineChart
from fedcmp.report.charts.scale import cut_range, lower_part
from fedcmp.report.comparison import Comparison
from fedcmp.report.methods import MethodEntry, write_number
from fedcmp.report.palette import client_colour, client_marker
from fedcmp.report.panels import Mark, Panel, small_panel
from fedcmp.runs.reading import Run
from fedcmp.runs.records import ClientRound

_MOST_NAMED = 8


@dataclass(frozen=True)
class _Measure:
    attribute: str
    title: str
    unit: str
    decimals: int
    scale: float = 1.0
    direction: str = "neither way is better"
    summed: bool = False  # over the rounds so far

    def write(self, value: float) -> str:
        return write_number(value, self.decimals) + (" %" if self.unit == "%" else "")


_MEASURES = (
    _Measure("loss", "Training loss", "nats per caption token, mean over the round", 3, direction="lower is better"),
    _Measure(
        "alignment_error",
        "Alignment error",
        "1 − cos of visual and caption tokens, after training",
        3,
        direction="lower is better",
    ),
    _Measure("update_norm", "Update norm", "distance from the broadcast projector", 2),
)
_WEIGHT = _Measure("weight", "Weight", "%", 1, 100.0)


_OF_SITES = (
    _Measure("arrived", "Reply", "seconds after the round was opened", 1),
    _Measure("num_bytes", "Sent and received so far", "MB", 2, 1e-6, summed=True),
)


def client_panels(comparison: Comparison) -> list[tuple[str, list[Panel]]]:
    """Return per-client curves: (title of the measure, one panel per method), for each measure that was noted."""
    found = [
        (f"{m.title} ({m.unit}; {m.direction})", _small_multiples(comparison, comparison.methods, m)) for m in _MEASURES
    ]
    return [(title, panels) for title, panels in found if panels]


def site_panels(comparison: Comparison) -> list[Panel]:
    """Return when each site's replies arrived, and what it sent and received: panels of federated methods."""
    return [
        replace(panel, subtitle=f"{measure.title}, {measure.unit}")
        for measure in _OF_SITES
        for panel in _small_multiples(comparison, comparison.federated, measure)
    ]


def weight_panels(comparison: Comparison) -> list[Panel]:
    """Return each client's share in the merge, one panel per federated method, with the equal share marked."""
    return _small_multiples(comparison, comparison.federated, _WEIGHT)


def _small_multiples(comparison: Comparison, methods: Sequence[MethodEntry], measure: _Measure) -> list[Panel]:
    charts: list[tuple[MethodEntry, LineChart]] = []
    for method in methods:
        lines = _client_lines(method.counted[0], measure)
        if reference_of(method.name) == "centralized":  # its one learner is none of the clients
            colour, marker = comparison.palette.colour(method.label), comparison.palette.marker(method.label)
            lines = tuple(replace(line, colour=colour, marker=marker) for line in lines)
        if lines:
            equal = measure.scale / len(lines)
            levels = (Level(equal, "var(--reference)"),) if measure is _WEIGHT else ()
            title = f"{measure.title} of {method.label}'s clients"
            charts.append((method, LineChart(title, lines, measure.write, levels)))
    if not charts:
        return []
    values = [y for _, chart in charts for line in chart.lines for _, y in line.points]
    values += [level.value for _, chart in charts for level in chart.levels]
    shared = cut_range(values, lower_part(values, 0.9))
    panels: list[Panel] = []
    for method, chart in charts:
        subtitle = f"seed {method.counted[0].seed}" if len(method.runs) > 1 else ""
        shown = replace(chart, y_range=shared)
        colour = comparison.palette.colour(method.label)
        key = f"{measure.attribute}{len(panels)}"
        own = Mark(colour, comparison.palette.glyph(method.label), method.label)
        panels.append(small_panel(key, method.label, subtitle, shown, mark=own))
    return panels


def _client_lines(run: Run, measure: _Measure) -> tuple[Line, ...]:
    by_client: dict[int, list[tuple[ClientRound, float]]] = {}
    for record in run.client_rounds:
        value = getattr(record, measure.attribute)
        if value is not None and math.isfinite(value):
            noted = by_client.setdefault(record.client, [])
            before = noted[-1][1] if noted and measure.summed else 0.0
            noted.append((record, before + value * measure.scale))
    lines = [
        Line(
            noted[-1][0].name,
            client_colour(client),
            client_marker(client),
            tuple((float(record.round), value) for record, value in noted),
        )
        for client, noted in sorted(by_client.items())
    ]
    if len(lines) <= _MOST_NAMED:
        return tuple(lines)
    # many clients: a grey bundle, of which only the two extremes are named
    ends = sorted(range(len(lines)), key=lambda index: lines[index].points[-1][1])
    named = {ends[0], ends[-1]}
    bundle = [replace(line, colour="var(--bundle)", named=False) for i, line in enumerate(lines) if i not in named]
    return (*bundle, *(lines[index] for index in sorted(named)))
