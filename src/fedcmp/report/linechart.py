"""Line charts as SVG: every line is named at its end, colours come from the page's CSS variables, no script.

The text in a chart is untrusted and escaped here. Nothing is random: the same chart gives the same bytes.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from html import escape

from fedcmp.report.scale import cut_range, lower_part, nice_ticks, place_labels, tick_texts

_FONT = 12.0
_CHARACTER = 6.7  # mean advance of a character of the page's sans-serif at 12 px, on the safe side
_TOP, _BOTTOM = 10.0, 38.0


@dataclass(frozen=True)
class Line:
    """One line: label, colour (CSS), marker, (x, y) points with x ascending; `free` may run out of a cut picture."""

    label: str
    colour: str
    marker: str
    points: tuple[tuple[float, float], ...]
    band: tuple[tuple[float, float, float], ...] = ()
    strong: bool = False
    free: bool = False
    named: bool = True


@dataclass(frozen=True)
class Level:
    """A dashed horizontal line; without a label it only marks the height."""

    value: float
    colour: str
    label: str = ""


@dataclass(frozen=True)
class LineChart:
    """Lines and levels over one x axis; `write` turns a y value into the text of labels and tooltips.

    Without `names_at_lines` whoever places the chart names the lines beside it.
    """

    key: str
    title: str
    lines: tuple[Line, ...]
    write: Callable[[float], str]
    levels: tuple[Level, ...] = ()
    x_title: str = "round"
    y_range: tuple[float, float] | None = None
    values_in_labels: bool = True
    label_length: int = 20
    names_at_lines: bool = True

    @property
    def range(self) -> tuple[float, float]:
        """The y range: as given, or that of the values, cut where first rounds would flatten the rest."""
        if self.y_range is not None:
            return self.y_range
        firm = [line for line in self.lines if not line.free] or list(self.lines)
        anchors = [line.points[-1][1] for line in firm] + [level.value for level in self.levels]
        anchors += lower_part([y for line in firm for _, y in line.points])
        return cut_range([y for line in self.lines for _, y in line.points] + anchors, anchors)

    @property
    def cut(self) -> tuple[str, ...]:
        """The lines that run out of the picture at its top, in part or as a whole."""
        return tuple(line.label for line in self.lines if any(y > self.range[1] for _, y in line.points))

    def arrow(self, line: Line) -> str:
        """What follows the name of a line that ends above the picture."""
        return " ↑" if line.points[-1][1] > self.range[1] else ""


def marker_svg(marker: str, x: float, y: float, colour: str, size: float = 3.0) -> str:
    """Draw one marker around (x, y); `colour` fills it (crosses are stroked)."""
    style = f'style="fill:{escape(colour)};stroke:{escape(colour)}"'
    if marker == "square":
        return f'<rect x="{x - size:.1f}" y="{y - size:.1f}" width="{2 * size:.1f}" height="{2 * size:.1f}" {style}/>'
    if marker == "triangle":
        high, wide = 1.25 * size, 1.2 * size
        return f'<path d="M{x:.1f} {y - high:.1f}l{wide:.1f} {2 * size:.1f}h{-2 * wide:.1f}z" {style}/>'
    if marker == "diamond":
        d = 1.35 * size
        return f'<path d="M{x:.1f} {y - d:.1f}l{d:.1f} {d:.1f}l{-d:.1f} {d:.1f}l{-d:.1f} {-d:.1f}z" {style}/>'
    if marker in ("cross", "plus"):
        d = size if marker == "cross" else 1.2 * size
        path = (
            f"M{x - d:.1f} {y - d:.1f}l{2 * d:.1f} {2 * d:.1f}M{x - d:.1f} {y + d:.1f}l{2 * d:.1f} {-2 * d:.1f}"
            if marker == "cross"
            else f"M{x - d:.1f} {y:.1f}h{2 * d:.1f}M{x:.1f} {y - d:.1f}v{2 * d:.1f}"
        )
        return f'<path d="{path}" style="stroke:{escape(colour)};stroke-width:2;fill:none"/>'
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{1.1 * size:.1f}" {style}/>'


@dataclass(frozen=True)
class _Label:
    text: str
    colour: str
    marker: str
    height: float


def line_chart(chart: LineChart, width: float, height: float) -> str:
    """Render a chart that is drawn `width` x `height` pixels large and scales with its box.

    Args:
        chart: at least one line with at least one point.
        width: in CSS pixels at scale 1.
        height: likewise; grown where the labels need more.
    """
    low, high = chart.range
    texts = [_label_text(chart, line) for line in chart.lines if line.named and chart.names_at_lines]
    texts += [level.label for level in chart.levels if level.label]
    height = max(height, _TOP + _BOTTOM + 14.0 * len(texts))
    ticks = nice_ticks(low, high, max(4, int((height - _TOP - _BOTTOM) // 34)))
    written = tick_texts(ticks)
    left = 10.0 + _CHARACTER * max(map(len, written), default=1)
    right = 26.0 + _CHARACTER * max(map(len, texts)) if texts else 10.0
    x_low = min(line.points[0][0] for line in chart.lines)
    x_high = max(line.points[-1][0] for line in chart.lines)

    def across(x: float) -> float:
        return left + (width - left - right) * ((x - x_low) / (x_high - x_low) if x_high > x_low else 0.5)

    def down(y: float) -> float:
        return _TOP + (height - _TOP - _BOTTOM) * (high - y) / (high - low)

    frame = f'<rect x="0" y="{_TOP:.0f}" width="{width:.0f}" height="{height:.0f}"/>'
    parts = [f'<clipPath id="{chart.key}">{frame}</clipPath>']
    for tick, tick_text in zip(ticks, written, strict=True):
        y = down(tick)
        parts.append(f'<path class="grid" d="M{left:.1f} {y:.1f}H{width - right:.1f}"/>')
        parts.append(f'<text class="tick" x="{left - 6:.1f}" y="{y + 4:.1f}" text-anchor="end">{tick_text}</text>')
    room = max(2, int((width - left - right) // 34))
    for tick in (tick for tick in nice_ticks(x_low, x_high, room) if tick == int(tick)):
        x = across(tick)
        parts.append(f'<text class="tick" x="{x:.1f}" y="{height - 22:.1f}" text-anchor="middle">{tick:.0f}</text>')
    middle = (left + width - right) / 2
    title = escape(chart.x_title)
    parts.append(f'<text class="axis" x="{middle:.1f}" y="{height - 5:.1f}" text-anchor="middle">{title}</text>')
    for level in chart.levels:
        y = down(level.value)
        parts.append(f'<path class="level" d="M{left:.1f} {y:.1f}H{width - right:.1f}" style="stroke:{level.colour}"/>')
    drawn = "".join(_draw_line(chart, line, across, down) for line in chart.lines)
    parts.append(f'<g clip-path="url(#{chart.key})">{drawn}</g>')
    parts.append(_labels(chart, down, width - right, height))
    alt = escape(describe(chart))
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{alt}" '
        f'style="--width:{width:.0f}px">{"".join(parts)}</svg>'
    )


def describe(chart: LineChart) -> str:
    """Say in words what the chart shows: each line's first and last value, and the levels."""
    told = []
    for line in chart.lines:
        (first_x, first), (last_x, last) = line.points[0], line.points[-1]
        span = f"{chart.write(last)} at {chart.x_title} {last_x:g}"
        told.append(
            f"{line.label}: {chart.write(first)} at {chart.x_title} {first_x:g}, {span}"
            if len(line.points) > 1
            else f"{line.label}: {span}"
        )
    told.extend(level.label for level in chart.levels if level.label)
    return f"{chart.title}. {'; '.join(told)}."


def _label_text(chart: LineChart, line: Line) -> str:
    arrow = chart.arrow(line)
    name = line.label if len(line.label) <= chart.label_length else line.label[: chart.label_length - 1] + "…"
    return f"{name} {chart.write(line.points[-1][1])}{arrow}" if chart.values_in_labels else f"{name}{arrow}"


def _draw_line(chart: LineChart, line: Line, across: Callable[[float], float], down: Callable[[float], float]) -> str:
    colour = escape(line.colour)
    parts = []
    if len(line.band) > 1:
        upper = [f"{across(x):.1f} {down(top):.1f}" for x, _, top in line.band]
        lower = [f"{across(x):.1f} {down(bottom):.1f}" for x, bottom, _ in reversed(line.band)]
        parts.append(f'<path class="band" d="M{"L".join(upper + lower)}z" style="fill:{colour}"/>')
    path = "L".join(f"{across(x):.1f} {down(y):.1f}" for x, y in line.points)
    strong = " strong" if line.strong else ""
    parts.append(f'<path class="line{strong}" d="M{path}" style="stroke:{colour}"/>')
    for x, y in line.points if line.named else ():
        tip = escape(f"{line.label}, {chart.x_title} {x:g}: {chart.write(y)}")
        mark = marker_svg(line.marker, across(x), down(y), line.colour) if len(line.points) <= 25 else ""
        hit = f'<circle class="hit" cx="{across(x):.1f}" cy="{down(y):.1f}" r="9"/>'
        parts.append(f"<g><title>{tip}</title>{mark}{hit}</g>")
    return "".join(parts)


def _labels(chart: LineChart, down: Callable[[float], float], x: float, height: float) -> str:
    floor = height - _BOTTOM
    labels = [
        _Label(_label_text(chart, line), line.colour, line.marker, min(max(down(line.points[-1][1]), _TOP), floor))
        for line in chart.lines
        if line.named and chart.names_at_lines and math.isfinite(line.points[-1][1])
    ]
    labels += [_Label(level.label, level.colour, "", down(level.value)) for level in chart.levels if level.label]
    places = place_labels([label.height for label in labels], 14.0, _TOP, floor)
    parts = []
    for label, place in zip(labels, places, strict=True):
        leader = f"M{x + 4:.1f} {label.height:.1f}L{x + 12:.1f} {place:.1f}"
        parts.append(f'<path class="leader" d="{leader}" style="stroke:{escape(label.colour)}"/>')
        if label.marker:
            parts.append(marker_svg(label.marker, x + 16, place, label.colour))
        else:
            dash = f'd="M{x + 12:.1f} {place:.1f}h8" style="stroke:{escape(label.colour)};stroke-width:2"'
            parts.append(f"<path {dash}/>")
        parts.append(f'<text class="label" x="{x + 23:.1f}" y="{place + 4:.1f}">{escape(label.text)}</text>')
    return "".join(parts)
