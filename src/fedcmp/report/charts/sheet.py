"""A sheet that charts are drawn on: a matplotlib figure measured in CSS pixels, written as SVG markup or as PNG bytes.

Colours are the page's CSS variables. A PNG takes their light values; in the SVG the variables stand, so that a chart
follows the page into the dark. Text stays text, in the page's font; a hover value is a <title> inside its mark. All
text is untrusted: matplotlib's XML writer and ours escape it. No date, version or random name is written.
"""

import re
import warnings
from collections.abc import Iterator, Sequence
from io import BytesIO, StringIO
from typing import Any, Protocol
from xml.etree import ElementTree

import matplotlib
from markupsafe import Markup
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.transforms import Affine2D, Transform

from fedcmp.report.palette import CSS_COLOURS, CSS_VARIABLES

_INCH = 72  # pixels of a sheet, so that its SVG is measured in pixels
_SHARP = 2.0  # pixels of a PNG for one of the sheet
_TITLE, _GAP = 24.0, 18.0  # pixels over each chart of a file, and between its charts
_NUMBER = re.compile(r"-?\d+\.\d+")
_DOT = re.compile(r"M([\d.-]+) ([\d.-]+)L\1 \2(?![\d.])")
_MARKS = {"circle": "o", "square": "s", "triangle": "^", "diamond": "D", "cross": "x", "plus": "P"}
INK, SOFT, GRID, GROUND = "var(--ink)", "var(--soft)", "var(--grid)", "var(--ground)"
FONT = 12.0
CHARACTER = 6.7  # mean advance of a character of the page's sans-serif at 12 px, on the safe side


class Chart(Protocol):
    """What can be drawn."""

    def describe(self) -> str:
        """Say in words what the chart shows, for whoever cannot see it."""

    def height(self, width: float) -> float:
        """Return how high the chart has to be, in pixels, when it is `width` pixels wide."""

    def draw(self, sheet: "Sheet", box: tuple[float, float, float, float]) -> None:
        """Draw into the box (left, bottom, width, height)."""


def mark(marker: str) -> dict[str, Any]:
    """Return how matplotlib draws a marker of the palette."""
    return {"marker": _MARKS[marker], "markeredgewidth": 2.0 if marker == "cross" else 1.0}


def light(colour: str) -> str:
    """Return the value that a CSS variable of the page has in the light."""
    return CSS_COLOURS[colour]


class Sheet:
    """A figure of `width` x `height` pixels, origin at the lower left."""

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self.figure = Figure(figsize=(width / _INCH, height / _INCH), dpi=_INCH)
        self._tips: dict[str, Sequence[str]] = {}
        self._owners: dict[str, str] = {}
        self._named = 0

    @property
    def pixels(self) -> Transform:
        """Map from the sheet's pixels to what matplotlib draws in."""
        return Affine2D().scale(1 / _INCH) + self.figure.dpi_scale_trans

    def axes(self, left: float, bottom: float, width: float, height: float) -> Axes:
        """Add axes without a frame; their ticks are small and soft."""
        box = (left / self.width, bottom / self.height, width / self.width, height / self.height)
        axes = self.figure.add_axes(box)
        axes.patch.set_visible(False)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0, pad=5, labelsize=FONT, labelcolor=light(SOFT))
        axes.set_axisbelow(True)
        return axes

    def text(self, x: float, y: float, text: str, *, size: float = FONT, colour: str = INK, **more: Any) -> Text:
        """Write plain text, never a formula, by default to the right of (x, y) and centred on its height."""
        placed: dict[str, Any] = {"va": "center_baseline", "transform": self.pixels, "parse_math": False, **more}
        return self.figure.text(x, y, text, fontsize=size, color=light(colour), **placed)

    def line(self, points: Sequence[tuple[float, float]], colour: str, *, width: float = 1.5, **more: Any) -> Line2D:
        """Draw a line, or a marker at each point, in the sheet's pixels; `colour` is a light value."""
        xs, ys = zip(*points, strict=True)
        line = Line2D(xs, ys, color=colour, linewidth=width, transform=self.pixels, **more)
        self.figure.add_artist(line)
        return line

    def name(self, artist: Artist, kind: str, owner: str = "") -> None:
        """Give an artist a class in the SVG, and the method that it is hidden and highlighted with."""
        self._named += 1
        artist.set_gid(f"{kind}.{self._named}")
        if owner:
            self._owners[str(artist.get_gid())] = owner

    def tips(self, artist: Artist, owner: str, texts: Sequence[str]) -> None:
        """Give an artist its hover values: one for each of its markers, or a single one for all of it."""
        self.name(artist, "tips", owner)
        self._tips[str(artist.get_gid())] = texts

    def png(self) -> bytes:
        """Return the sheet as a PNG on white."""
        FigureCanvasAgg(self.figure)
        held = BytesIO()
        with matplotlib.rc_context({"path.simplify": False}), warnings.catch_warnings():  # a map's points are kept
            warnings.filterwarnings("ignore", message="Glyph")  # a client's name in a script that the font lacks
            self.figure.savefig(held, format="png", dpi=_INCH * _SHARP, metadata={"Software": None})
        return held.getvalue()

    def svg(self, key: str, alt: str) -> Markup:
        """Return the sheet as an element of a page.

        Args:
            key: a name that no other chart of the page has; its own names begin with it.
            alt: what the chart shows, in words.
        """
        self.figure.patch.set_visible(False)
        FigureCanvasSVG(self.figure)
        held = StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        settings: Any = {"svg.fonttype": "none", "svg.hashsalt": key, "path.simplify": False}
        with matplotlib.rc_context(settings), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph")
            self.figure.savefig(held, format="svg", dpi=_INCH, metadata=nothing)
        root = ElementTree.fromstring(held.getvalue().partition("<svg")[2].join(("<svg", "")))
        for element in list(root.iter()):
            self._clean(element)
        for style in root.findall("defs/style/.."):
            root.remove(style)
        _flatten(root)
        root.attrib = {
            "viewBox": f"0 0 {self.width:.0f} {self.height:.0f}",
            "role": "img",
            "aria-label": alt,
            "style": f"--width:{self.width:.0f}px",
        }
        return Markup(ElementTree.tostring(root, encoding="unicode", short_empty_elements=True))

    def _clean(self, element: ElementTree.Element) -> None:
        """Leave of an element what a page needs: no name spaces, no fonts, one decimal, variables for colours."""
        element.tag = element.tag.rpartition("}")[2]
        given = {name.rpartition("}")[2]: value for name, value in element.attrib.items()}
        name = given.pop("id", "") if element.tag == "g" else ""
        if "." in name and not name.startswith("matplotlib"):
            given["class"] = name.partition(".")[0]
        if name in self._owners:
            given["data-of"] = self._owners[name]
        if name in self._tips:
            uses = [inner for inner in element.iter() if inner.tag.endswith("}use")]
            for target, text in zip(uses or [element], self._tips[name], strict=True):
                ElementTree.SubElement(target, "title").text = text
        if "d" in given:
            path = " ".join(_short(given["d"]).split()).replace(" L ", "L").replace("M ", "M").replace(" M", "M")
            given["d"] = _DOT.sub(r"M\1 \2h0", path)
        for name in ("x", "y", "transform"):
            if name in given:
                given[name] = _short(given[name])
        if given.get("transform", "").startswith("rotate(-0 "):
            del given["transform"]
        if "style" in given:
            given["style"] = ";".join(_styles(given["style"]))
        uses = [child for child in element if child.tag.endswith("use")]
        if uses:  # markers of one look: it is said once, of their group
            given["style"] = ";".join(_styles(uses[0].attrib["style"]))
            for use in uses:
                del use.attrib["style"]
        element.attrib = given
        element.tail = None
        if element.tag not in ("text", "title"):
            element.text = None


def _flatten(element: ElementTree.Element) -> None:
    """Take away the groups that say nothing of what is in them."""
    for place in reversed(range(len(element))):
        child = element[place]
        _flatten(child)
        if child.tag == "g" and not child.attrib and child.find("title") is None:
            element[place : place + 1] = list(child)


def _short(numbers: str) -> str:
    return _NUMBER.sub(lambda found: f"{float(found.group()):.1f}".removesuffix(".0"), numbers)


def _styles(given: str) -> Iterator[str]:
    """Return a style's parts, variables for colours, without those that the style sheet has for every chart."""
    for part in given.split(";"):
        name, _, value = (piece.strip() for piece in part.partition(":"))
        if name and name != "font-family" and (name, value) != ("font-size", f"{FONT:.0f}px"):
            yield f"{name}:{CSS_VARIABLES.get(value, value)}"


def chart_svg(chart: Chart, key: str, width: float) -> Markup:
    """Draw one chart for the page, `width` pixels wide."""
    height = chart.height(width)
    sheet = Sheet(width, height)
    chart.draw(sheet, (0.0, 0.0, width, height))
    return sheet.svg(key, chart.describe())


def charts_png(charts: Sequence[tuple[str, Chart]], width: float, columns: int = 1) -> bytes:
    """Draw charts for a file, in rows, each `width` pixels wide and under its title."""
    columns = min(columns, len(charts))
    rows = [charts[start : start + columns] for start in range(0, len(charts), columns)]
    heights = [max(chart.height(width) for _, chart in row) + _TITLE for row in rows]
    sheet = Sheet(columns * (width + _GAP) + _GAP, sum(heights) + _GAP * (len(rows) + 1))
    top = sheet.height
    for row, height in zip(rows, heights, strict=True):
        top -= height + _GAP
        for column, (title, chart) in enumerate(row):
            left = _GAP + column * (width + _GAP)
            sheet.text(left, top + height - FONT, short(title, int(width / CHARACTER)), weight="bold", size=FONT + 1)
            chart.draw(sheet, (left, top, width, height - _TITLE))
    return sheet.png()


def short(name: str, length: int = 24) -> str:
    """Cut a name to the length that there is room for."""
    return name if len(name) <= length else name[: length - 1] + "…"
