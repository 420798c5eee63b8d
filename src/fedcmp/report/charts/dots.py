"""Dot charts: one row per method, a dot at its value, a bar for its spread.

Dashed verticals stand at the two ends that frame the comparison (the blind LLM and pooled data). Where low values are
the bad ones (`cut_low`), the axis is cut at its lower end instead of its upper one.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.ticker import MaxNLocator

from fedcmp.report.charts.scale import cut_range
from fedcmp.report.charts.sheet import CHARACTER, GRID, SOFT, Sheet, light, mark, short

_BOLD = 1.12  # some labels are
_ROW, _TOP, _BOTTOM = 25.0, 6.0, 38.0


@dataclass(frozen=True)
class Dot:
    """One row: `frame` draws a vertical through the dot, `free` may lie beyond a cut axis; `owner` as of a Line."""

    label: str
    value: float
    spread: float | None
    colour: str
    marker: str
    strong: bool = False
    frame: bool = False
    free: bool = False
    owner: str = ""


@dataclass(frozen=True)
class DotChart:
    """Rows in the order given, at least one, all values finite.

    `axis` is the title under the axis; `write` turns a value into the text at the right; `cut_low`: free dots may lie
    beyond the lower end of the axis, not the upper one; `reach`: how many ranges of the dots that are not free the axis
    spans at most.
    """

    title: str
    dots: tuple[Dot, ...]
    axis: str
    write: Callable[[float], str]
    cut_low: bool = False
    reach: float = 2.2

    @property
    def range(self) -> tuple[float, float]:
        """Return the ends of the axis."""
        turn = -1.0 if self.cut_low else 1.0
        firm = [turn * dot.value for dot in self.dots if not dot.free] or [turn * dot.value for dot in self.dots]
        ends = cut_range([turn * edge for dot in self.dots for edge in _edges(dot)], firm, self.reach)
        low, high = sorted(turn * end for end in ends)
        return low, high

    def text(self, dot: Dot) -> str:
        """Say what stands at the right of a row: the value, with an arrow where it lies beyond the axis."""
        low, high = self.range
        return self.write(dot.value) + (" →" if dot.value > high else " ←" if dot.value < low else "")

    def describe(self) -> str:
        """Say in words what the chart shows: each row's value."""
        return f"{self.title}. {'; '.join(f'{dot.label}: {self.write(dot.value)}' for dot in self.dots)}."

    def height(self, width: float) -> float:  # noqa: ARG002 -- other charts' heights depend on it
        """Return the height in pixels."""
        return _TOP + _ROW * len(self.dots) + _BOTTOM

    def draw(self, sheet: Sheet, box: tuple[float, float, float, float]) -> None:
        """Draw into the upper part of the box (left, bottom, width, height)."""
        left, bottom, width, height = box
        low, high = self.range
        rows = _ROW * len(self.dots)
        floor = bottom + height - _TOP - rows
        before = 18.0 + _BOLD * CHARACTER * max(len(short(dot.label)) for dot in self.dots)
        after = 14.0 + _BOLD * CHARACTER * max(len(self.text(dot)) for dot in self.dots)
        across = max(width - before - after, 40.0)
        axes = sheet.axes(left + before, floor, across, rows)
        axes.set_xlim(low, high)
        axes.set_ylim(0, len(self.dots))
        axes.set_yticks([])
        axes.xaxis.set_major_locator(MaxNLocator(max(2, int(across // 52)), steps=[1, 2, 2.5, 5, 10]))
        axes.grid(axis="x", color=light(GRID), linewidth=1)
        axes.set_xlabel(self.axis, fontsize=12, color=light(SOFT), parse_math=False, labelpad=3)
        for dot in self.dots:
            if dot.frame:
                seen = min(max(dot.value, low), high)
                line = axes.axvline(seen, color=light(dot.colour), linewidth=1.2, linestyle=(0, (5, 4)), alpha=0.8)
                sheet.name(line, "level", dot.owner)
        for index, dot in enumerate(self.dots):
            colour, place = light(dot.colour), len(self.dots) - index - 0.5
            weight = "bold" if dot.strong else "normal"
            y = floor + _ROW * place
            for x, text, side in ((-10, short(dot.label), "right"), (across + 10, self.text(dot), "left")):
                sheet.name(sheet.text(left + before + x, y, text, ha=side, weight=weight), "label", dot.owner)
            axes.axhline(place, color=light(GRID), linewidth=1)
            if dot.spread:
                ends = [min(max(dot.value + side * dot.spread, low), high) for side in (-1, 1)]
                (bar,) = axes.plot(ends, [place, place], color=colour, linewidth=3, alpha=0.45, solid_capstyle="butt")
                sheet.name(bar, "error", dot.owner)
            seen = min(max(dot.value, low), high)
            (drawn,) = axes.plot(seen, place, color=colour, **mark(dot.marker), markersize=9, clip_on=False)
            sheet.tips(drawn, dot.owner, [f"{dot.label}: {self.write(dot.value)}"])


def _edges(dot: Dot) -> tuple[float, float]:
    spread = 0.0 if dot.spread is None or dot.free or not math.isfinite(dot.spread) else dot.spread
    return dot.value - spread, dot.value + spread
