"""A figure of the page: a drawing with its caption. Large ones come wide and narrow, so that text keeps its size."""

from dataclasses import dataclass, replace
from html import escape

from fedcmp.report.linechart import LineChart, line_chart
from fedcmp.report.tables import swatch

WIDE, HALF, NARROW, SMALL = 1120.0, 548.0, 358.0, 300.0  # CSS pixels at scale 1; NARROW fits a phone of 390


@dataclass(frozen=True)
class Panel:
    """Title and subtitle (plain text), drawing (markup), note (plain text), colour of a swatch."""

    title: str
    subtitle: str
    drawing: str
    note: str = ""
    colour: str = ""

    def html(self) -> str:
        """Render the figure with its caption."""
        note = f'<p class="note">{escape(self.note)}</p>' if self.note else ""
        subtitle = f' <span class="sub">{escape(self.subtitle)}</span>' if self.subtitle else ""
        caption = f"<figcaption>{swatch(self.colour)}{escape(self.title)}{subtitle}</figcaption>"
        return f"<figure>{caption}{self.drawing}{note}</figure>"


def two_sizes(wide: str, narrow: str) -> str:
    """Put a wide and a narrow drawing of the same thing where the style sheet shows the one that fits."""
    return f'<div class="wide">{wide}</div><div class="narrow">{narrow}</div>'


def large_chart(chart: LineChart, width: float, height: float) -> str:
    """Draw a chart for the page's width and once more for a phone's."""
    wide = line_chart(replace(chart, key=f"{chart.key}-wide"), width, height)
    return two_sizes(wide, line_chart(replace(chart, key=f"{chart.key}-narrow"), NARROW, 300.0))


def small_chart(chart: LineChart) -> str:
    """Draw one of a row of small charts, names without values at the lines."""
    return f'<div class="one">{line_chart(replace(chart, values_in_labels=False, label_length=13), SMALL, 190.0)}</div>'


def cut_note(chart: LineChart) -> str:
    """Say which lines run out of a cut picture, or nothing."""
    names = chart.cut
    if not names:
        return ""
    return f"The axis is cut: {', '.join(names)} {'runs' if len(names) == 1 else 'run'} out of the picture at its top."
