"""One table, three ways to show it: as HTML (sortable), as Markdown, as plain cells for a terminal.

All text in a table is untrusted and escaped where it is rendered; a cell never holds markup.
"""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from html import escape

_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>|~#])")


@dataclass(frozen=True)
class Cell:
    """One cell: the text, its sort value, and how it is dressed (all dress is optional).

    `bold` is for the best, `second` underlines what comes next; `detail` follows the text in small print; `bar` is a
    share in [0, 1] drawn behind it, `tick` a mark on that bar; `shade` a share in [0, 1] that tints the cell; `colour`
    a CSS colour of a swatch before the text.
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

    @property
    def plain(self) -> str:
        """The text with its detail, without any dress."""
        return f"{self.text} {self.detail}".strip()


@dataclass(frozen=True)
class Column:
    """A column: title, unit ("" for none), whether it holds numbers (aligned right, sorted as numbers), a swatch.

    `quiet` prints it in a soft colour: its numbers are shown, but nothing is concluded from them.
    """

    title: str
    unit: str = ""
    numeric: bool = True
    colour: str = ""
    quiet: bool = False

    @property
    def header(self) -> str:
        """The title with its unit."""
        return f"{self.title} ({self.unit})" if self.unit else self.title


@dataclass(frozen=True)
class Row:
    """A row of cells; `best` marks the winner, `reference` a row that frames the comparison without taking part."""

    cells: tuple[Cell, ...]
    best: bool = False
    reference: bool = False


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

    @property
    def headers(self) -> list[str]:
        """Titles with units, for a terminal."""
        return [column.header for column in self.columns]

    def text_rows(self) -> list[list[str]]:
        """The cells as plain text, for a terminal."""
        return [[cell.plain for cell in row.cells] for row in self.rows]

    def without_empty_columns(self) -> "Table":
        """Leave out every column after the first that has nothing but dashes."""
        filled = [any(row.cells[at].plain not in ("", "–") for row in self.rows) for at in range(len(self.columns))]
        keep = [at for at in range(len(self.columns)) if at == 0 or filled[at]]
        rows = tuple(Row(tuple(row.cells[index] for index in keep), row.best, row.reference) for row in self.rows)
        return replace(self, columns=tuple(self.columns[index] for index in keep), rows=rows)


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
    lines.extend(f"\n{escape_markdown(note)}" for note in table.notes)
    return "\n".join(lines) + "\n"


def table_to_html(table: Table, *, sortable: bool = True) -> str:
    """Render a table in a box of its own that scrolls when it is wider than the page.

    Args:
        table: what to show.
        sortable: put a button into every header (the page's script does the sorting).
    """
    heads = "".join(_head(column, sortable) for column in table.columns)
    longest = [max((len(row.cells[at].detail) for row in table.rows), default=0) for at in range(len(table.columns))]
    widths = [0] * len(longest) if table.stacked else longest
    reference = tuple(row for row in table.rows if row.reference) if table.apart else ()
    bodies = _body(tuple(row for row in table.rows if not (table.apart and row.reference)), table.columns, widths, "")
    bodies += _body(reference, table.columns, widths, ' class="apart"') if reference else ""
    stacked = ' class="stacked"' if table.stacked else ""
    caption = f"<caption>{escape(table.caption)}</caption>" if table.caption else ""
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in table.notes)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(table.caption or "Table")}">'
        f"<table{stacked}>{caption}<thead><tr>{heads}</tr></thead>\n{bodies}</table></div>{notes}"
    )


def swatch(colour: str) -> str:
    """Return a small square of a CSS colour, or nothing without one."""
    return f'<span class="swatch" style="background:{escape(colour)}"></span>' if colour else ""


def _head(column: Column, sortable: bool) -> str:
    unit = f'<span class="unit">{escape(column.unit)}</span>' if column.unit else ""
    named = ' class="named"' if column.colour else ""
    label = f"<span{named}>{swatch(column.colour)}{escape(column.title)}</span>{unit}"
    kind = ("number" if column.numeric else "text") + (" quiet" if column.quiet else "")
    inside = f'<button type="button" class="sort">{label}</button>' if sortable else label
    return f'<th scope="col" class="{kind}">{inside}</th>'


def _body(rows: Sequence[Row], columns: Sequence[Column], widths: Sequence[int], dress: str) -> str:
    written = "\n".join(_row(row, columns, widths) for row in rows)
    return f"<tbody{dress}>\n{written}\n</tbody>"


def _row(row: Row, columns: Sequence[Column], widths: Sequence[int]) -> str:
    classes = " ".join(name for name, on in (("best", row.best), ("reference", row.reference)) if on)
    first = f'<th scope="row">{_content(row.cells[0], columns[0], 0)}</th>'
    rest = zip(row.cells[1:], columns[1:], widths[1:], strict=True)
    cells = first + "".join(_data_cell(cell, column, width) for cell, column, width in rest)
    return f'<tr class="{classes}">{cells}</tr>' if classes else f"<tr>{cells}</tr>"


def _data_cell(cell: Cell, column: Column, width: int) -> str:
    classes = ("number" if column.numeric else "text") + ("" if cell.shade is None else " shaded")
    classes += " quiet" if column.quiet else ""
    value = "" if cell.value is None or not math.isfinite(cell.value) else f' data-value="{cell.value:.10g}"'
    style = "" if cell.shade is None else f' style="--amount:{min(max(cell.shade, 0.0), 1.0):.3f}"'
    return f'<td class="{classes}"{value}{style}>{_content(cell, column, width)}</td>'


def _content(cell: Cell, column: Column, width: int) -> str:
    """The inside of a cell; a detail takes the width of its column's longest, so that the numbers stay aligned."""
    mark = "strong" if cell.bold else "u" if cell.second else ""
    text = f"<{mark}>{escape(cell.text)}</{mark}>" if mark else escape(cell.text)
    text = swatch(cell.colour) + text
    if column.numeric and width:
        text += f' <span class="detail" style="min-width:{0.9 * width:.1f}ch">{escape(cell.detail)}</span>'
    elif cell.detail:
        text += f' <span class="detail">{escape(cell.detail)}</span>'
    if cell.bar is not None:
        fill = f'<i class="fill" style="width:{_percent(cell.bar)};background:{escape(column.colour)}"></i>'
        tick = "" if cell.tick is None else f'<i class="tick" style="left:{_percent(cell.tick)}"></i>'
        text += f'<span class="bar" aria-hidden="true">{fill}{tick}</span>'
    return text


def _percent(share: float) -> str:
    return f"{100 * min(max(share, 0.0), 1.0):.1f}%"
