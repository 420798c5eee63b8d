"""Line charts: curves over rounds with bands and dashed levels, every line named at its end."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from fedcmp.report.charts.scale import cut_range, lower_part, place_labels
from fedcmp.report.charts.sheet import CHARACTER, GRID, SOFT, Sheet, light, mark
from fedcmp.report.palette import DASHES

_TOP, _BOTTOM = 10.0, 38.0
_LINE = 14.0  # pixels from one name to the next
_MOST_MARKED = 25  # points of a line with a marker each


@dataclass(frozen=True)
class Line:
    """One line: label, colour (CSS), marker, (x, y) points with x ascending; `free` may run out of a cut chart.

    `dash` is a pattern of palette.DASHES, `owner` the method that the page's script hides or highlights it with.
    """

    label: str
    colour: str
    marker: str
    points: tuple[tuple[float, float], ...]
    band: tuple[tuple[float, float, float], ...] = ()
    strong: bool = False
    free: bool = False
    named: bool = True
    dash: int = 0
    owner: str = ""


@dataclass(frozen=True)
class Level:
    """A dashed horizontal line; without a label it only marks the height."""

    value: float
    colour: str
    label: str = ""


@dataclass(frozen=True)
class LineChart:
    """Lines and levels over one x axis; `write` turns a y value into the text of labels and hover values.

    At least one line with at least one point. Without `names_at_lines` whoever places the chart names the lines next to
    it. The chart grows where its names need more than `least_height` pixels.
    """

    title: str
    lines: tuple[Line, ...]
    write: Callable[[float], str]
    levels: tuple[Level, ...] = ()
    x_title: str = "round"
    y_range: tuple[float, float] | None = None
    values_in_labels: bool = True
    label_length: int = 20
    names_at_lines: bool = True
    least_height: float = 320.0

    @property
    def range(self) -> tuple[float, float]:
        """Return the y range: as given, or that of the values, cut where first rounds would flatten the rest."""
        if self.y_range is not None:
            return self.y_range
        firm = [line for line in self.lines if not line.free] or list(self.lines)
        anchors = [line.points[-1][1] for line in firm] + [level.value for level in self.levels]
        anchors += lower_part([y for line in firm for _, y in line.points])
        return cut_range([y for line in self.lines for _, y in line.points] + anchors, anchors)

    @property
    def cut(self) -> tuple[str, ...]:
        """Return the lines that run out of the chart at its top, in part or as a whole."""
        return tuple(line.label for line in self.lines if any(y > self.range[1] for _, y in line.points))

    def arrow(self, line: Line) -> str:
        """Say what follows the name of a line that ends above the chart."""
        return " ↑" if line.points[-1][1] > self.range[1] else ""

    def describe(self) -> str:
        """Say in words what the chart shows: each line's first and last value, and the levels."""
        told = []
        for line in self.lines:
            ends = [line.points[0], line.points[-1]] if len(line.points) > 1 else [line.points[-1]]
            told.append(f"{line.label}: {', '.join(f'{self.write(y)} at {self.x_title} {x:g}' for x, y in ends)}")
        told.extend(level.label for level in self.levels if level.label)
        return f"{self.title}. {'; '.join(told)}."

    def height(self, width: float) -> float:  # noqa: ARG002 -- other charts' heights depend on it
        """Return the height in pixels: as asked, or as the names need."""
        return max(self.least_height, _TOP + _BOTTOM + _LINE * len(self._names()))

    def draw(self, sheet: Sheet, box: tuple[float, float, float, float]) -> None:
        """Draw into the box (left, bottom, width, height)."""
        left, bottom, width, height = box
        low, high = self.range
        names = self._names()
        axes = sheet.axes(left, bottom + _BOTTOM, width, height - _TOP - _BOTTOM)
        axes.set_ylim(low, high)
        axes.yaxis.set_major_locator(
            MaxNLocator(max(4, int((height - _TOP - _BOTTOM) // 34)), steps=[1, 2, 2.5, 5, 10])
        )
        written = axes.yaxis.get_major_formatter().format_ticks(list(axes.get_yticks()))
        before = 12.0 + CHARACTER * max(map(len, written), default=1)
        after = 26.0 + CHARACTER * max(len(name.text) for name in names) if names else 10.0
        across = (left + before) / sheet.width, (bottom + _BOTTOM) / sheet.height
        size = max(width - before - after, 40.0), height - _TOP - _BOTTOM
        axes.set_position((*across, size[0] / sheet.width, size[1] / sheet.height))
        axes.xaxis.set_major_locator(MaxNLocator(max(2, int(size[0] // 34)), integer=True, steps=[1, 2, 5, 10]))
        axes.grid(axis="y", color=light(GRID), linewidth=1)
        axes.set_xlabel(self.x_title, fontsize=12, color=light(SOFT), parse_math=False, labelpad=3)
        for level in self.levels:
            drawn = axes.axhline(
                level.value, color=light(level.colour), linewidth=1.2, linestyle=(0, (5, 4)), alpha=0.8
            )
            sheet.name(drawn, "level")
        for line in self.lines:
            self._draw_line(sheet, axes, line)
        ends = [line.points[0][0] for line in self.lines] + [line.points[-1][0] for line in self.lines]
        pad = 0.03 * (max(ends) - min(ends)) or 0.5
        axes.set_xlim(min(ends) - pad, max(ends) + pad)
        self._draw_names(sheet, names, (left + before + size[0], bottom + _BOTTOM, size[1]))

    def _names(self) -> list["_Name"]:
        names = [
            _Name(self._name(line), line.colour, line.marker, line.points[-1][1], line.owner)
            for line in self.lines
            if line.named and self.names_at_lines
        ]
        return names + [_Name(level.label, level.colour, "", level.value) for level in self.levels if level.label]

    def _name(self, line: Line) -> str:
        name = line.label if len(line.label) <= self.label_length else line.label[: self.label_length - 1] + "…"
        value = f" {self.write(line.points[-1][1])}" if self.values_in_labels else ""
        return f"{name}{value}{self.arrow(line)}"

    def _draw_line(self, sheet: Sheet, axes: Axes, line: Line) -> None:
        colour = light(line.colour)
        if len(line.band) > 1:
            at, least, most = zip(*line.band, strict=True)
            band = axes.fill_between(at, least, most, color=colour, alpha=0.16, linewidth=0)
            sheet.name(band, "band", line.owner)
        xs, ys = zip(*line.points, strict=True)
        width = 3.0 if line.strong else 1.8
        (drawn,) = axes.plot(xs, ys, color=colour, linewidth=width, solid_joinstyle="round")
        drawn.set_dashes(DASHES[line.dash])
        sheet.name(drawn, "line", line.owner)
        low, high = self.range
        seen = [(x, y) for x, y in line.points if low <= y <= high] if line.named else []
        if not seen:
            return
        xs, ys = zip(*seen, strict=True)
        every = math.ceil(len(seen) / _MOST_MARKED)
        look: dict[str, Any] = {"linestyle": "none", "markersize": 6.5, "clip_on": False, **mark(line.marker)}
        sheet.name(axes.plot(xs[::every], ys[::every], color=colour, **look)[0], "marks", line.owner)
        (hit,) = axes.plot(xs, ys, linestyle="none", marker="o", markersize=16, color=colour, alpha=0, clip_on=False)
        sheet.tips(hit, line.owner, [f"{line.label}, {self.x_title} {x:g}: {self.write(y)}" for x, y in seen])

    def _draw_names(self, sheet: Sheet, names: "list[_Name]", box: tuple[float, float, float]) -> None:
        """Write the names at the right of the box (x, bottom, height), apart from each other, each with a leader."""
        x, bottom, height = box
        low, high = self.range
        heights = [bottom + height * (min(max(name.value, low), high) - low) / (high - low) for name in names]
        places = place_labels(heights, _LINE, bottom, bottom + height)
        for name, start, place in zip(names, heights, places, strict=True):
            colour = light(name.colour)
            parts: list[Artist] = [sheet.line([(x + 1, start), (x + 12, place)], colour, width=1.0, alpha=0.7)]
            if name.marker:
                parts.append(sheet.line([(x + 16, place)], colour, **mark(name.marker), markersize=6.5))
            else:
                parts.append(sheet.line([(x + 12, place), (x + 20, place)], colour, width=2.0))
            for part in (*parts, sheet.text(x + 23, place, name.text)):
                sheet.name(part, "label", name.owner)


@dataclass(frozen=True)
class _Name:
    text: str
    colour: str
    marker: str
    value: float
    owner: str = ""
