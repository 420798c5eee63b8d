"""The first screen's picture as SVG: one row a method, a dot at its loss, bars for its spread.

Dashed verticals stand at the two ends that frame the comparison (the blind LLM and pooled data). Where low values are
the bad ones (`cut_low`), the axis is cut at its lower end instead of its upper one.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from html import escape

from fedcmp.report.linechart import marker_svg
from fedcmp.report.scale import cut_range, nice_ticks, tick_texts

_CHARACTER = 7.5  # some labels are bold
_ROW = 25.0


@dataclass(frozen=True)
class Dot:
    """One row: `frame` draws a vertical through the dot, `free` may lie beyond a cut axis."""

    label: str
    value: float
    spread: float | None
    colour: str
    marker: str
    strong: bool = False
    frame: bool = False
    free: bool = False


def dot_chart(
    dots: list[Dot],
    *,
    title: str,
    axis: str,
    write: Callable[[float], str],
    width: float,
    cut_low: bool = False,
    reach: float = 2.2,
) -> str:
    """Render the rows in the order given.

    Args:
        dots: at least one, values finite.
        title: what the picture shows, for its alternative text.
        axis: the title under the axis.
        write: value -> the text at the right.
        width: in CSS pixels at scale 1.
        cut_low: free dots may lie beyond the lower end of the axis, not the upper one.
        reach: how many ranges of the dots that are not free the axis spans at most.
    """
    turn = -1.0 if cut_low else 1.0
    firm = [turn * dot.value for dot in dots if not dot.free] or [turn * dot.value for dot in dots]
    low, high = sorted(
        turn * end for end in cut_range([turn * edge for dot in dots for edge in _edges(dot)], firm, reach)
    )
    left = 18.0 + _CHARACTER * max(len(_short(dot.label)) for dot in dots)
    texts = [write(dot.value) + (" →" if dot.value > high else " ←" if dot.value < low else "") for dot in dots]
    right = 14.0 + _CHARACTER * max(map(len, texts))
    bottom = _ROW * len(dots) + 6
    height = bottom + 34

    def across(value: float) -> float:
        return left + (width - left - right) * (max(min(value, high), low) - low) / (high - low)

    parts = []
    ticks = nice_ticks(low, high, max(2, int((width - left - right) // 52)))
    for tick, written in zip(ticks, tick_texts(ticks), strict=True):
        x = across(tick)
        parts.append(f'<path class="grid" d="M{x:.1f} 6V{bottom:.1f}"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{bottom + 14:.1f}" text-anchor="middle">{written}</text>')
    middle = (left + width - right) / 2
    parts.append(f'<text class="axis" x="{middle:.1f}" y="{height - 4:.1f}" text-anchor="middle">{escape(axis)}</text>')
    for dot in dots:
        if dot.frame:
            x = across(dot.value)
            parts.append(f'<path class="level" d="M{x:.1f} 6V{bottom:.1f}" style="stroke:{escape(dot.colour)}"/>')
    for index, (dot, text) in enumerate(zip(dots, texts, strict=True)):
        y = 6 + _ROW * (index + 0.5)
        weight = ' font-weight="700"' if dot.strong else ""
        name = escape(_short(dot.label))
        parts.append(f'<text class="label" x="{left - 10:.1f}" y="{y + 4:.1f}" text-anchor="end"{weight}>{name}</text>')
        parts.append(f'<path class="row" d="M{left:.1f} {y:.1f}H{width - right:.1f}"/>')
        if dot.spread:
            start, end = across(max(dot.value - dot.spread, low)), across(dot.value + dot.spread)
            parts.append(
                f'<path class="error" d="M{start:.1f} {y:.1f}H{end:.1f}" style="stroke:{escape(dot.colour)}"/>'
            )
        parts.append(marker_svg(dot.marker, across(dot.value), y, dot.colour, 4.2))
        parts.append(f'<text class="label" x="{width - right + 10:.1f}" y="{y + 4:.1f}"{weight}>{escape(text)}</text>')
    told = "; ".join(f"{dot.label}: {write(dot.value)}" for dot in dots)
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{escape(f"{title}. {told}.")}" '
        f'style="--width:{width:.0f}px">{"".join(parts)}</svg>'
    )


def _edges(dot: Dot) -> tuple[float, float]:
    spread = 0.0 if dot.spread is None or dot.free or not math.isfinite(dot.spread) else dot.spread
    return dot.value - spread, dot.value + spread


def _short(label: str) -> str:
    return label if len(label) <= 24 else label[:23] + "…"
