"""One table, three ways to show it: as HTML (by a template), as Markdown, as plain cells for a terminal.

All text in a table is untrusted and escaped where it is rendered; a cell never holds markup.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from fedcmp.report.methods import Metric
from fedcmp.report.palette import Palette

_ARROWS = {"low": "↓", "high": "↑", "": ""}
DIRECTIONS = "↓ lower is better, ↑ higher is better."
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>|~#])")


@dataclass(frozen=True)
class Cell:
    """One cell: the text, its sort value, and how it is dressed (all dress is optional).

    `bold` is for the best, `second` underlines what comes next; `detail` follows the text in small print; `bar` is a
    share in [0, 1] drawn behind it, `tick` a mark on that bar; `shade` a share in [0, 1] that tints the cell; `colour`
    a CSS colour of a swatch before the text, which has the shape of `glyph`.
    """

    text: str
    value: float | None = None
    detail: str = ""
    bold: bool = False
    colour: str = ""
    bar: float | None = None
    tick: float | None = None
    shade: float | None = None
    second: bool = False
    glyph: str = "■"

    @property
    def sort_key(self) -> str:
        """Return the value that the page's script sorts by, "" for none."""
        return "" if self.value is None or not math.isfinite(self.value) else f"{self.value:.10g}"

    @property
    def plain(self) -> str:
        """Return the text with its detail, without any dress."""
        return f"{self.text} {self.detail}".strip()


def name_cell(palette: Palette, key: str, title: str = "", *, bold: bool = False) -> Cell:
    """Return a method's name with its swatch; without one where the palette does not know it."""
    if key not in palette.slots:
        return Cell(title or key, bold=bold)
    return Cell(title or key, colour=palette.colour(key), glyph=palette.glyph(key), bold=bold)


@dataclass(frozen=True)
class Column:
    """A column: title, unit ("" for none), whether it holds numbers (aligned right, sorted as numbers), a swatch.

    `quiet` prints it in a soft colour: its numbers are shown, but nothing is concluded from them. `better` says which
    numbers are the better ones, if any: they come first when the column is sorted.
    """

    title: str
    unit: str = ""
    numeric: bool = True
    colour: str = ""
    quiet: bool = False
    better: Literal["", "low", "high"] = ""
    glyph: str = "■"
    owner: str = ""

    @classmethod
    def of(cls, metric: Metric) -> "Column":
        """Return the column of a metric."""
        return cls(metric.title, metric.unit, better=metric.better)

    @property
    def kind(self) -> str:
        """Return the style sheet's classes of its cells."""
        return ("number" if self.numeric else "text") + (" quiet" if self.quiet else "")

    @property
    def header(self) -> str:
        """Return the title with its unit and direction."""
        return f"{self.title} ({self.measure})" if self.measure else self.title

    @property
    def measure(self) -> str:
        """Return the unit, and an arrow towards the better values."""
        return f"{self.unit} {_ARROWS[self.better]}".strip()


@dataclass(frozen=True)
class Row:
    """A row of cells; `best` marks the winner, `reference` a row that frames the comparison without taking part.

    `owner` is the method that the page's script hides or highlights it with; so it is of a column.
    """

    cells: tuple[Cell, ...]
    best: bool = False
    reference: bool = False
    owner: str = ""

    @property
    def dress(self) -> str:
        """Return the style sheet's classes of the row."""
        return " ".join(name for name, on in (("best", self.best), ("reference", self.reference)) if on)


@dataclass(frozen=True)
class Table:
    """Columns, rows, and the notes that belong under them. The first column names the row.

    `apart` keeps reference rows below a rule of their own, out of the sorting; `stacked` puts details under their
    numbers, for tables of many columns.
    """

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    caption: str = ""
    notes: tuple[str, ...] = ()
    apart: bool = False
    stacked: bool = False

    def with_spread_note(self, note: str = "") -> "Table":
        """Add below the table what ± is, where a cell has one; `note` says it in other words than SPREAD."""
        shown = any("±" in cell.detail for row in self.rows for cell in row.cells)
        return replace(self, notes=(note or SPREAD, *self.notes)) if shown else self

    @property
    def bodies(self) -> list[tuple[Row, ...]]:
        """Return the rows, those that are kept apart in a group of their own."""
        together = tuple(row for row in self.rows if not (self.apart and row.reference))
        apart = tuple(row for row in self.rows if self.apart and row.reference)
        return [together, apart] if apart else [together]

    @property
    def detail_widths(self) -> list[int]:
        """Letters of each column's longest detail; 0 where details stand under their numbers."""
        if self.stacked:
            return [0] * len(self.columns)
        return [max((len(row.cells[at].detail) for row in self.rows), default=0) for at in range(len(self.columns))]

    @property
    def headers(self) -> list[str]:
        """Return titles with units, for a terminal."""
        return [column.header for column in self.columns]

    @property
    def footnotes(self) -> tuple[str, ...]:
        """Return the notes, and what the arrows in the heads mean where there are any."""
        return (*self.notes, DIRECTIONS) if any(column.better for column in self.columns) else self.notes

    def without_empty_columns(self) -> "Table":
        """Leave out every column after the first that has nothing but dashes."""
        filled = [any(row.cells[at].plain not in ("", "–") for row in self.rows) for at in range(len(self.columns))]
        keep = [at for at in range(len(self.columns)) if at == 0 or filled[at]]
        rows = tuple(replace(row, cells=tuple(row.cells[index] for index in keep)) for row in self.rows)
        return replace(self, columns=tuple(self.columns[index] for index in keep), rows=rows)


SPREAD = "± is the standard deviation over seeds."  # the one meaning that it has in every table


def escape_markdown(text: str) -> str:
    """Escape text for a line of Markdown: no markup, no raw HTML, no line break."""
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def table_to_markdown(table: Table) -> str:
    """Render a table with its caption and notes as Markdown, ending in a line break."""

    def line(cells: Iterable[str]) -> str:
        return f"| {' | '.join(cells)} |"

    def cell(given: Cell) -> str:
        text = escape_markdown(given.plain)
        return f"**{text}**" if given.bold else f"<ins>{text}</ins>" if given.second else text

    lines = [line(escape_markdown(column.header) for column in table.columns)]
    lines.append(line("---:" if column.numeric else "---" for column in table.columns))
    lines.extend(line(cell(entry) for entry in row.cells) for row in table.rows)
    lines.extend(f"\n{escape_markdown(note)}" for note in table.footnotes)
    return "\n".join(lines) + "\n"
