import sys

import pytest
from typer.testing import CliRunner

from fedcmp.cli.main import app
from fedcmp.data.pairs import open_pairs
from fedcmp.errors import UserError
from fedcmp.extras import require
from fedcmp.shipped import shipped_recipe
from fedcmp.world.export import export_world

STUDY = str(shipped_recipe("study").path)


def test_an_installed_library_passes():
    require("json", "none", "a test")


def test_a_missing_one_names_the_extra(tmp_path, monkeypatch):
    for name in ("pyarrow", "openTSNE", "pandas"):
        monkeypatch.setitem(sys.modules, name, None)
    line = r"parquet files: pyarrow is not installed: pip install 'fedcmp\[parquet\]'"
    with pytest.raises(UserError, match=line):
        open_pairs("parquet", tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"--format parquet: pyarrow is not installed"):
        export_world(tmp_path / "world", split="train", count=1, format="parquet")
    assert not (tmp_path / "world").exists()


@pytest.mark.parametrize(
    ("missing", "extra", "arguments"),
    [
        ("openTSNE", "study", ["study", STUDY, "--plan"]),
        ("sklearn", "study", ["study", STUDY, "--plan"]),
        ("openTSNE", "study", ["scenario", "show", "none"]),
        ("pyarrow", "parquet", ["world", "benchmarks", "none"]),
        ("pyarrow", "parquet", ["evaluate", ".", "--suite", "llava7"]),
    ],
)
def test_a_command_that_needs_one_says_so_first(monkeypatch, missing, extra, arguments):
    monkeypatch.setitem(sys.modules, missing, None)
    done = CliRunner().invoke(app, arguments)
    assert isinstance(done.exception, UserError)
    assert f"{missing} is not installed: pip install 'fedcmp[{extra}]'" in str(done.exception)
