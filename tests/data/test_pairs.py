"""The one door to all formats."""

import json
from pathlib import Path

import pytest

from fedcmp.data.pairs import open_pairs
from fedcmp.errors import UserError


def test_wrong_arguments(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown format of pairs 'csv': choose llava, webdataset or parquet"):
        open_pairs("csv", tmp_path)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="no pairs file"):
        open_pairs("llava", [])


def test_whose_pairs_they_are_is_said(tmp_path: Path) -> None:
    """Files of several clients may be called alike."""
    (tmp_path / "pairs.json").write_text(json.dumps([{"image": "a.png", "caption": "a"}]))
    opened = open_pairs("llava", tmp_path / "pairs.json", owner="client lab")
    assert opened.name == "client lab: pairs.json"
    assert opened.fingerprint() == open_pairs("llava", tmp_path / "pairs.json").fingerprint()
    with pytest.raises(UserError, match=r"^client lab: .*none: no such folder"):
        open_pairs("llava", tmp_path / "pairs.json", tmp_path / "none", owner="client lab")
