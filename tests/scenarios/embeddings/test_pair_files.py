"""What a user means by some files and folders."""

from pathlib import Path

import pytest

from fedcmp.errors import UserError
from fedcmp.scenarios.embeddings.pair_files import find_pairs


@pytest.fixture
def folder(tmp_path):
    for name in ("tars/a.tar", "tars/a.parquet", "data/train/0.parquet", "json/pairs.json", "x.JSONL", "y.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("tars", "webdataset"),  # img2dataset writes a parquet file of words beside each tar
        ("tars/a.tar", "webdataset"),
        ("tars/{a..b}.tar", "webdataset"),
        ("data", "parquet"),
        ("data/train/*.parquet", "parquet"),
        ("json/pairs.json", "llava"),
        ("x.JSONL", "llava"),
    ],
)
def test_the_format_is_told_by_names_and_folders(folder, name, format):
    found = find_pairs([folder / name])
    assert (found.format, found.pairs, found.images) == (format, (folder / name,), None)
    assert find_pairs([folder / name], format="parquet").format == "parquet"


def test_paths_become_absolute(folder, monkeypatch):
    monkeypatch.chdir(folder / "json")
    monkeypatch.setenv("HOME", str(folder))
    found = find_pairs([Path("pairs.json")], images=folder / "json" / ".." / "tars")
    assert found.pairs == (folder / "json" / "pairs.json",)
    assert found.images == folder / "json" / ".." / "tars"
    assert find_pairs([Path("~/x.jsonl")]).pairs == (folder / "x.JSONL".lower(),)


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        ([], {}, "no pairs are named"),
        (["y.csv"], {}, r"y\.csv: its format cannot be told by its name: give --format llava, webdataset or parquet"),
        (["nowhere"], {}, "nowhere: its format cannot be told"),
        (["json"], {}, "json: holds neither tars nor parquet files: name the JSON file"),
        (["x.JSONL", "tars"], {}, r"tars: is webdataset, but .*x\.JSONL is llava: embed one format at a time"),
        (["tars"], {"images": "json"}, "--images .*json: webdataset files hold their pictures"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(folder, names, options, message):
    options = {key: folder / name for key, name in options.items()}
    with pytest.raises(UserError, match=message) as caught:
        find_pairs([folder / name for name in names], **options)
    assert "\n" not in str(caught.value)
