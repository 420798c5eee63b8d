"""Wrap the prose of Markdown files at 100 columns; code, tables, headings, formulas and quoted results are left alone.

python docs/wrap.py README.md docs/*.md            (make wrap)
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

WIDTH = 100
_ITEM = re.compile(r"^(\s*)([-*+]|\d+[.)])(\s+)(?=\S)")
_KEPT = re.compile(r"^\s*(\||#|<|\$\$|---|\[[^\]]+\]:|!\[)")
_ATOM = re.compile(r"`[^`]*`|\$[^$]*\$|\[[^\]]*\]\([^)]*\)")  # not broken: code, formulas, links
_LONG_ATOM = 60
_BLOCK = re.compile(r"^([-*+>|]|#+|\d+[.)])$")  # words that would begin another block at the start of a line


def wrapped(text: str, width: int = WIDTH) -> str:
    """Return the document with its paragraphs, list items and quotations wrapped; twice is the same as once."""
    out: list[str] = []
    for block, prose in _blocks(text.split("\n")):
        if block[0].startswith(">"):
            inner = wrapped("\n".join(line[1:].removeprefix(" ") for line in block), width - 2)
            out += [f"> {line}".rstrip() for line in inner.split("\n")]
        else:
            out += _fill(block, width) if prose else block
    return "\n".join(out)


def _blocks(lines: list[str]) -> Iterator[tuple[list[str], bool]]:
    """Yield runs of lines, and whether a run is prose to be wrapped."""
    prose: list[str] = []
    until = ""  # what ends the passage that is kept as it is
    blank = True
    for line in lines:
        if line.startswith(">") and not until:
            if prose and not prose[0].startswith(">"):
                yield prose, True
                prose = []
            prose.append(line)
            continue
        if prose and prose[0].startswith(">"):
            yield prose, True
            prose = []
        starts = _kept_until(line) if not until else ""
        if until or starts or not line.strip() or _KEPT.match(line) or (blank and line.startswith("    ")):
            if prose:
                yield prose, True
                prose = []
            yield [line], False
            if until and until in line:
                until = ""
            elif starts:
                until = starts
            blank = True  # after a blank line, a heading, code: an indented line is code
            continue
        if prose and _ITEM.match(line):
            yield prose, True
            prose = []
        prose.append(line)
        blank = False
        if line.endswith(("  ", "\\")):  # a line break that is meant
            yield prose, False
            prose = []
    if prose:
        yield prose, True


def _kept_until(line: str) -> str:
    text = line.strip()
    if text.startswith("```"):
        return "```"
    if text.startswith("<!-- quote"):
        return "<!-- end of quote"
    if text.startswith("$$") and text.count("$$") == 1:
        return "$$"
    return ""


def _fill(block: list[str], width: int) -> list[str]:
    item = _ITEM.match(block[0])
    first = item[0] if item else re.match(r"\s*", block[0])[0]  # type: ignore[index]  # always matches
    rest = " " * len(first)
    text = " ".join([block[0][len(first) :].strip(), *(line.strip() for line in block[1:])])
    lines, current = [], list[str]()
    for word in _words(text):
        indent = rest if lines else first
        if current and len(indent) + len(" ".join([*current, word])) > width:
            moved = [word]
            while _BLOCK.match(moved[0]) and len(current) > 1:
                moved.insert(0, current.pop())
            lines.append(indent + " ".join(current))
            current = moved
        else:
            current.append(word)
    return [*lines, (rest if lines else first) + " ".join(current)]


def _words(text: str) -> list[str]:
    """Split at spaces, but not inside short code, formulas and links."""

    def whole(match: re.Match[str]) -> str:
        return match[0].replace(" ", "\0") if len(match[0]) <= _LONG_ATOM else match[0]

    return [word.replace("\0", " ") for word in _ATOM.sub(whole, text).split()]


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:]):
        path.write_text(wrapped(path.read_text(encoding="utf-8")), encoding="utf-8")
