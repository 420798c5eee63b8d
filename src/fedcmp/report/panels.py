"""A figure of the page: a chart with its caption. Large ones come wide and narrow, so that text keeps its size."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from fedcmp.report.charts.lines import LineChart
from fedcmp.report.charts.sheet import Chart, chart_svg
from fedcmp.report.palette import GLYPHS

WIDE, HALF, NARROW, SMALL = 1120.0, 548.0, 358.0, 300.0  # CSS pixels at scale 1; NARROW fits a phone of 390
_AT_LINE = 13  # letters that a name may have to stand at its line's end in a small chart


@dataclass(frozen=True)
class Mark:
    """The swatch before a title: CSS colour and glyph, and the method that it stands for."""

    colour: str = ""
    glyph: str = "■"
    owner: str = ""


@dataclass(frozen=True)
class Panel:
    """Title, subtitle and note (plain texts), a chart, a swatch, a symbol ("d_t").

    `key` is a name that no other panel of the page has. A `width` of SMALL is drawn once, a larger one for the page's
    width and once more for a phone's. The `legend` has (glyph, colour, text) of lines that are not named in the chart.
    """

    key: str
    title: str
    subtitle: str
    chart: Chart
    width: float = SMALL
    note: str = ""
    mark: Mark = Mark()
    symbol: str = ""
    legend: Sequence[tuple[str, str, str]] = ()

    def drawings(self) -> list[tuple[str, Markup]]:
        """Draw the chart: (the style sheet's class, SVG), once or twice."""
        if self.width == SMALL:
            return [("one", chart_svg(self.chart, self.key, SMALL))]
        narrow = self.chart
        if isinstance(narrow, LineChart):
            narrow = replace(narrow, least_height=300.0)
        wide = chart_svg(self.chart, f"{self.key}-wide", self.width)
        return [("wide", wide), ("narrow", chart_svg(narrow, f"{self.key}-narrow", NARROW))]


def small_panel(
    key: str, title: str, subtitle: str, chart: LineChart, *, mark: Mark = Mark(), symbol: str = ""
) -> Panel:
    """Return a small line chart: names without values, at the lines if all fit there, else in a legend."""
    named = [line for line in chart.lines if line.named]
    fits = all(len(line.label) <= _AT_LINE for line in named)
    bare = replace(chart, values_in_labels=False, label_length=_AT_LINE, names_at_lines=fits, least_height=190.0)
    legend = [(GLYPHS[line.marker], line.colour, f"{line.label}{chart.arrow(line)}") for line in named]
    return Panel(key, title, subtitle, bare, mark=mark, symbol=symbol, legend=() if fits else legend)


def cut_note(chart: LineChart) -> str:
    """Say which lines run out of a cut chart, or nothing."""
    names = chart.cut
    if not names:
        return ""
    return f"The axis is cut: {', '.join(names)} {'runs' if len(names) == 1 else 'run'} out of the chart at its top."
