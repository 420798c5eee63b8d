"""What every PNG of a report shares: markers, names at the ends of lines, the frame, bytes that are the same twice."""

import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from fedcmp.report.palette import MARKERS
from fedcmp.report.scale import place_labels

MARKS = dict(zip(MARKERS, ("o", "s", "^", "D", "x", "P"), strict=True))
DASHES = (0, (4, 3))
_DPI = 200
_TITLE = 36  # letters a line


@dataclass(frozen=True)
class End:
    """Where a line ends and what is written there."""

    height: float
    text: str
    colour: str


def frame(axes: Axes, title: str) -> None:
    """Title and dress one picture; the title is plain text, never a formula."""
    axes.set_title(textwrap.fill(title, _TITLE), loc="left", fontsize=9.5, parse_math=False)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def finish(canvas: Canvas, axes: Axes, ends: Sequence[End], title: str, limits: tuple[float, float]) -> None:
    """Set the frame of a line chart over rounds and name the lines at their ends."""
    low, high = limits
    axes.set_ylim(low, high)
    axes.set_xlabel("round", fontsize=9)
    frame(axes, title)
    axes.grid(axis="y", linewidth=0.4, alpha=0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    inches = axes.get_position().height * canvas.get_size_inches()[1]
    gap = (high - low) * 0.14 / inches  # 0.14 inch a line of 8-point type
    heights = [min(max(end.height, low), high) for end in ends]
    for end, height, place in zip(ends, heights, place_labels(heights, gap, low, high), strict=True):
        axes.annotate(
            end.text + (" ↑" if end.height > high else ""),
            xy=(1.0, height),
            xytext=(1.05, place),
            xycoords=axes.get_yaxis_transform(),
            textcoords=axes.get_yaxis_transform(),
            fontsize=8,
            va="center",
            parse_math=False,
            arrowprops=_leader(end.colour),
        )


def _leader(colour: str) -> dict[str, object]:
    return {"arrowstyle": "-", "color": colour, "linewidth": 1.2, "shrinkA": 1, "shrinkB": 0, "relpos": (0.0, 0.5)}


def short(name: str) -> str:
    """Cut a name to what fits beside a line."""
    return name if len(name) <= 24 else name[:23] + "…"


def png(canvas: Canvas) -> bytes:
    """Render the canvas; no date or version is written, so the same figure gives the same bytes."""
    FigureCanvasAgg(canvas)
    held = BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a client's name in a script that the font lacks
        canvas.savefig(held, format="png", dpi=_DPI, metadata={"Software": None})
    return held.getvalue()
