"""Turn the documents' TeX formulas into MathML while the site is built, so that no script is fetched to show them.

MkDocs calls the two functions (mkdocs.yml, hooks): one puts a mark in a formula's place before Markdown is read, the
other puts the formula there afterwards. Code is left alone.
"""

import re
from typing import Any

from latex2mathml.converter import convert

_CODE = re.compile(r"^```.*?^```|^    .*?$|`[^`\n]+`", re.MULTILINE | re.DOTALL)
_FORMULA = re.compile(r"\$\$(?P<display>[^$]+)\$\$|\$(?P<inline>(?![\s$])(?:[^$\n]|\n(?!\n))+?(?<!\s))\$(?![\w$])")
_MARK = "zformulaz{}z"  # letters and digits only: Markdown leaves it alone

_made: list[str] = []


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace each formula by a mark."""
    _made.clear()
    kept: list[str] = []

    def keep(match: re.Match[str]) -> str:
        kept.append(match[0])
        return f"\0{len(kept) - 1}\0"

    def mark(match: re.Match[str]) -> str:
        display = match["display"] is not None
        tex = " ".join((match["display"] or match["inline"]).split())
        _made.append(convert(tex, display="block" if display else "inline"))
        return _MARK.format(len(_made) - 1)

    marked = _FORMULA.sub(mark, _CODE.sub(keep, markdown))
    return re.sub("\0(\\d+)\0", lambda match: kept[int(match[1])], marked)


def on_page_content(html: str, **_: Any) -> str:
    """Put the formulas where their marks are."""
    return re.sub(_MARK.format(r"(\d+)"), lambda match: _made[int(match[1])], html)
