"""Prose wraps at 100 columns, and wrapping changes nothing but the line breaks."""

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
wrapped = runpy.run_path(str(ROOT / "docs" / "wrap.py"))["wrapped"]
LONG = "word " * 30


def test_paragraphs_items_and_quotations_are_wrapped():
    text = f"{LONG}\n\n- {LONG}\n  more\n1. one\n\n> {LONG}\n"
    lines = wrapped(text).split("\n")
    assert max(map(len, lines)) <= 100
    assert lines[3].startswith("- word")
    assert lines[4].startswith("  word")
    assert lines[4].endswith("more")
    assert lines[5] == "1. one"
    assert [line[:6] for line in lines[7:9]] == ["> word", "> word"]
    assert wrapped(wrapped(text)) == wrapped(text)


@pytest.mark.parametrize(
    "text",
    [
        f"```\n{LONG}\n\n{LONG}\n```",
        f"\n    {LONG}\n    {LONG}",
        f"## Heading\n    {LONG}\n    {LONG}",
        f"| {LONG} |\n|---|",
        f"## {LONG}",
        f"<!-- quote: a: b -->\n\n{LONG}\n\n<!-- end of quote -->",
        f"$$\n{LONG}\n$$",
        f"![{LONG}](a.png)",
    ],
)
def test_what_is_no_prose_is_left_alone(text):
    assert wrapped(text) == text


def test_no_line_begins_with_what_would_be_another_block():
    for sign in ("-", "1.", "#", ">"):
        text = f"{'x' * 95} abc {sign} def"
        assert not any(line.startswith(f"{sign} ") for line in wrapped(text).split("\n"))


def test_code_and_links_are_not_broken():
    for atom in ("`a b c d e`", "[a b c](d.md)", "$a + b$"):
        assert atom in wrapped(f"{'x' * 93} {atom} end")


DOCUMENTS = [*ROOT.glob("*.md"), *(path for path in (ROOT / "docs").glob("*.md") if path.name != "reference.md")]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_the_documents_are_wrapped(path):
    assert wrapped(path.read_text(encoding="utf-8")) == path.read_text(encoding="utf-8")
