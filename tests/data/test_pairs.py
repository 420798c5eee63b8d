"""The one door to all formats."""

from pathlib import Path

import pytest

from fedcmp.data.pairs import open_pairs
from fedcmp.errors import UserError


def test_wrong_arguments(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown format of pairs 'csv': choose llava, webdataset or parquet"):
        open_pairs("csv", tmp_path)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="no pairs file"):
        open_pairs("llava", [])
