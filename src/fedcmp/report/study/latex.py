"""Tables as LaTeX (booktabs): one table* a result table, text escaped, nothing but ASCII and Latin letters written.

The preamble needs \\usepackage[T1]{fontenc}, \\usepackage[utf8]{inputenc}, \\usepackage{booktabs} and
\\usepackage{graphicx}; every table is scaled to the text's width.
"""

import re
from collections.abc import Sequence

from fedcmp.report.tables import Cell, Row, Table

PREAMBLE = (
    "% Needs: \\usepackage[T1]{fontenc} \\usepackage[utf8]{inputenc} \\usepackage{booktabs} \\usepackage{graphicx}"
)
_WRITTEN = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"$<$",
    ">": r"$>$",
    "|": r"$|$",
    '"': r"\textquotedbl{}",
    "±": r"$\pm$",
    "−": r"$-$",
    "–": "--",
    "—": "---",
    "→": r"$\rightarrow$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "✓": r"$\surd$",  # \checkmark would need another package
    "†": r"$\dagger$",
    "…": r"\ldots{}",
    "’": "'",
    "‘": "`",
    "“": "``",
    "”": "''",
    "\u00a0": "~",
    "\u202f": r"\,",
}
_LATIN = re.compile(r"[\x20-\x7e\u00c0-\u00ff\u0100-\u017f]")


def escape_latex(text: str) -> str:
    """Escape text for one line of LaTeX; a letter that the usual fonts lack becomes a question mark."""
    inner = " ".join(text.replace("\u202f", "\x00").replace("\u00a0", "\x01").split())
    inner = inner.replace("\x00", "\u202f").replace("\x01", "\u00a0")
    return "".join(_WRITTEN.get(sign) or (sign if _LATIN.match(sign) else "?") for sign in inner)


def table_to_latex(table: Table, *, title: str, label: str) -> str:
    """Render one table with its notes.

    Args:
        table: reference rows come below a rule where the table keeps them apart.
        title: the caption, plain text.
        label: what \\ref names; letters, digits and hyphens are kept.
    """
    groups: list[Sequence[Row]] = [table.rows]
    if table.apart:
        groups = [[row for row in table.rows if not row.reference], [row for row in table.rows if row.reference]]
    heads = [" & ".join(escape_latex(column.title) for column in table.columns) + r" \\"]
    if any(column.measure for column in table.columns):
        units = [
            rf"{{\scriptsize {escape_latex(column.measure)}}}" if column.measure else "" for column in table.columns
        ]
        heads.append(" & ".join(units) + r" \\")
    bodies = ["\n".join(" & ".join(map(_cell, row.cells)) + r" \\" for row in group) for group in groups if group]
    notes = " ".join(escape_latex(note) for note in table.footnotes)
    lines = [
        r"\begin{table*}[t]",
        r"\centering",
        rf"\caption{{{escape_latex(title)}}}",
        rf"\label{{tab:{re.sub(r'[^A-Za-z0-9-]+', '-', label)}}}",
        r"\resizebox{\textwidth}{!}{%",
        rf"\begin{{tabular}}{{{''.join('r' if column.numeric else 'l' for column in table.columns)}}}",
        r"\toprule",
        *heads,
        r"\midrule",
        "\n\\midrule\n".join(bodies),
        r"\bottomrule",
        r"\end{tabular}}",
    ]
    lines += [rf"\par\smallskip{{\footnotesize {notes}\par}}"] if notes else []
    return "\n".join([*lines, r"\end{table*}"]) + "\n"


def _cell(cell: Cell) -> str:
    text = escape_latex(cell.text)
    text = rf"\textbf{{{text}}}" if cell.bold else rf"\underline{{{text}}}" if cell.second else text
    return rf"{text} {{\scriptsize {escape_latex(cell.detail)}}}" if cell.detail else text
