"""To follow one round takes at most ten files and 1,800 lines, and the list in docs/architecture.md is real."""

import runpy
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_one_round_is_read_in_ten_files():
    found = runpy.run_path(str(DOCS / "reading_order.py"))["reading_order"]()
    assert 5 <= len(found) <= 10
    assert sum(found.values()) <= 1800
