"""Documents quote the studies' tables between marks."""

import runpy
from pathlib import Path

import pytest

TOOL = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "quote_tables.py"))
TABLES = "# study\n\nAll ran.\n\n## Who wins\n\n| a |\n\n## Image clusters, table 1\n\n| b |\n"
KNOWN = TOOL["sections"]("study", TABLES) | TOOL["sections"]("other", "# other\n\nHalf ran.\n")


def test_quotes_are_renewed_and_the_rest_is_left_alone():
    text = "before\n<!-- quote: study: Image clusters -->\nold\n<!-- end of quote -->\nafter\n"
    renewed = TOOL["quoted"](text, KNOWN)
    assert renewed == "before\n<!-- quote: study: Image clusters -->\n\n| b |\n\n<!-- end of quote -->\nafter\n"
    assert TOOL["quoted"](renewed, KNOWN) == renewed


def test_each_study_has_its_own_summary():
    text = "<!-- quote: other: summary -->\n<!-- end of quote -->"
    assert "Half ran." in TOOL["quoted"](text, KNOWN)


def test_an_unknown_heading_is_named():
    with pytest.raises(ValueError, match="no section begins with 'study: Lost'"):
        TOOL["quoted"]("<!-- quote: study: Lost -->\n<!-- end of quote -->", KNOWN)
