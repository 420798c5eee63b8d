"""Documents quote the studies' tables between marks."""

import runpy
from pathlib import Path

import pytest

TOOL = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "quote_tables.py"))
TABLES = "# study\n\nAll ran.\n\n## Who wins\n\n| a |\n\n## Image clusters, table 1\n\n| b |\n\n## Sizes\n\n| c |\n"
TOY = TOOL["TOY_WORLD"]
KNOWN = TOOL["sections"]("study", TABLES) | TOOL["sections"]("other", "# other\n\nHalf ran.\n")


def test_quotes_are_renewed_and_the_rest_is_left_alone():
    text = "before\n<!-- quote: study: Image clusters -->\nold\n<!-- end of quote -->\nafter\n"
    renewed = TOOL["quoted"](text, KNOWN)
    expected = f"<!-- quote: study: Image clusters -->\n\n{TOY}\n\n| b |\n\n<!-- end of quote -->"
    assert renewed == f"before\n{expected}\nafter\n"
    assert TOOL["quoted"](renewed, KNOWN) == renewed


def test_each_study_has_its_own_summary_which_is_no_table():
    text = "<!-- quote: other: summary -->\n<!-- end of quote -->"
    assert TOOL["quoted"](text, KNOWN) == "<!-- quote: other: summary -->\n\nHalf ran.\n\n<!-- end of quote -->"


def test_what_a_benchmark_printed_is_quoted_as_it_is(tmp_path):
    (tmp_path / "speed.txt").write_text("a  b\n\n1  2\n")
    text = "<!-- quote as it is: speed: text -->\n<!-- end of quote -->"
    expected = "<!-- quote as it is: speed: text -->\n\n    a  b\n\n    1  2\n\n<!-- end of quote -->"
    assert TOOL["quoted"](text, TOOL["contents"](tmp_path / "speed.txt")) == expected


def test_a_table_of_the_real_models_is_quoted_as_it_is():
    text = "<!-- quote as it is: study: Sizes -->\n<!-- end of quote -->"
    assert TOOL["quoted"](text, KNOWN) == "<!-- quote as it is: study: Sizes -->\n\n| c |\n\n<!-- end of quote -->"


@pytest.mark.parametrize(
    "document", ["README.md", "docs/results.md", "docs/scenarios.md", "docs/performance.md", "docs/reliability.md"]
)
def test_the_documents_quote_what_is_published(document):
    root = Path(__file__).parents[2]
    known = {}
    for path in (path for kind in ("*.md", "*.txt") for path in (root / "results").glob(kind)):
        known |= TOOL["contents"](path)
    text = (root / document).read_text(encoding="utf-8")
    assert "<!-- quote" in text
    assert TOOL["quoted"](text, known) == text


def test_an_unknown_heading_is_named():
    with pytest.raises(ValueError, match="no section begins with 'study: Lost'"):
        TOOL["quoted"]("<!-- quote: study: Lost -->\n<!-- end of quote -->", KNOWN)
