"""A figure of the page: a drawing with its caption. Large ones come wide and narrow, so that text keeps its size."""

from dataclasses import dataclass, replace
from html import escape

from fedcmp.report.linechart import LineChart, line_chart, marker_svg
from fedcmp.report.tables import swatch

WIDE, HALF, NARROW, SMALL = 1120.0, 548.0, 358.0, 300.0  # CSS pixels at scale 1; NARROW fits a phone of 390
_AT_LINE = 13  # letters that a name may have to stand at its line's end in a small chart


@dataclass(frozen=True)
class Panel:
    """Title and subtitle (plain text), drawing (markup), note (plain text), colour of a swatch, symbol ("d_t")."""

    title: str
    subtitle: str
    drawing: str
    note: str = ""
    colour: str = ""
    symbol: str = ""

    def html(self) -> str:
        """Render the figure with its caption."""
        note = f'<p class="note">{escape(self.note)}</p>' if self.note else ""
        subtitle = f' <span class="sub">{escape(self.subtitle)}</span>' if self.subtitle else ""
        symbol = f" {symbol_html(self.symbol)}" if self.symbol else ""
        caption = f"<figcaption>{swatch(self.colour)}{escape(self.title)}{symbol}{subtitle}</figcaption>"
        return f"<figure>{caption}{self.drawing}{note}</figure>"


def symbol_html(symbol: str) -> str:
    """Set a symbol, "letter_index", as in a formula."""
    letter, _, index = symbol.partition("_")
    return f"<i>{escape(letter)}{f'<sub>{escape(index)}</sub>' if index else ''}</i>"


def two_sizes(wide: str, narrow: str) -> str:
    """Put a wide and a narrow drawing of the same thing where the style sheet shows the one that fits."""
    return f'<div class="wide">{wide}</div><div class="narrow">{narrow}</div>'


def large_chart(chart: LineChart, width: float, height: float) -> str:
    """Draw a chart for the page's width and once more for a phone's."""
    wide = line_chart(replace(chart, key=f"{chart.key}-wide"), width, height)
    return two_sizes(wide, line_chart(replace(chart, key=f"{chart.key}-narrow"), NARROW, 300.0))


def small_chart(chart: LineChart) -> str:
    """Draw one of a row of small charts: names without values, at the lines if all fit there, else in a legend."""
    named = [line for line in chart.lines if line.named]
    fits = all(len(line.label) <= _AT_LINE for line in named)
    bare = replace(chart, values_in_labels=False, label_length=_AT_LINE, names_at_lines=fits)
    drawing = f'<div class="one">{line_chart(bare, SMALL, 190.0)}</div>'
    if fits:
        return drawing
    entries = "".join(
        f'<li><svg viewBox="0 0 12 12" aria-hidden="true">{marker_svg(line.marker, 6, 6, line.colour)}</svg>'
        f"{escape(line.label)}{chart.arrow(line)}</li>"
        for line in named
    )
    return f'<div>{drawing}<ul class="legend">{entries}</ul></div>'


def cut_note(chart: LineChart) -> str:
    """Say which lines run out of a cut picture, or nothing."""
    names = chart.cut
    if not names:
        return ""
    return f"The axis is cut: {', '.join(names)} {'runs' if len(names) == 1 else 'run'} out of the picture at its top."
