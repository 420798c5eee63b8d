import json
import shutil
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fedcmp.data.finding import find_data
from fedcmp.data.pairs import open_pairs
from fedcmp.errors import UserError
from fedcmp.world.export import export_world


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """One small collection in each format; tests copy them."""
    folder = tmp_path_factory.mktemp("kept")
    for format in ("llava", "webdataset", "parquet"):
        export_world(folder / format, split="train", count=4, format=format)
    return folder


def laid_out(kept, folder, **formats):
    """Copy collections: name of a subfolder -> format."""
    for name, format in formats.items():
        shutil.copytree(kept / format, folder / name)
    return folder


@pytest.mark.parametrize(
    ("format", "files", "images"),
    [
        ("llava", ["pairs.json"], "images"),
        ("webdataset", ["shard-0000.tar"], None),
        ("parquet", ["pairs.parquet"], None),
    ],
)
def test_one_collection_of_each_format(kept, format, files, images):
    data = find_data(kept / format)
    (found,) = data.clients.values()
    assert (data.format, [path.name for path in found.files]) == (format, files)
    assert found.images == (kept / format / images if images else None)
    assert list(data.clients) == [""]


def test_a_subfolder_per_organisation_makes_clients_by_name(kept, tmp_path):
    laid_out(kept, tmp_path, **{"hospital-b": "llava", "hospital-a": "llava", "Klinik Zürich": "llava"})
    (tmp_path / "notes").mkdir()
    (tmp_path / ".git").mkdir()
    data = find_data(tmp_path)
    assert list(data.clients) == ["Klinik Zürich", "hospital-a", "hospital-b"]
    assert data.clients["hospital-a"].images == tmp_path / "hospital-a" / "images"
    assert data.unused == ("notes/: no pairs found",)


def test_files_one_level_down_are_one_collection(kept, tmp_path):
    laid_out(kept, tmp_path, data="parquet")
    assert find_data(tmp_path).clients[""].files == (tmp_path / "data" / "pairs.parquet",)


def test_annotations_apart_from_their_images(kept, tmp_path):
    shutil.copytree(kept / "llava" / "images", tmp_path / "photos")
    (tmp_path / "annotations").mkdir()
    shutil.copy(kept / "llava" / "pairs.json", tmp_path / "annotations" / "pairs.json")
    assert find_data(tmp_path).clients[""].images == tmp_path / "photos"


def test_json_lines_with_other_names_of_fields(tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    (tmp_path / "pairs.jsonl").write_text('{"images": ["a.png"], "caption": "red"}\n{"text": "no image"}\n')
    (tmp_path / "config.json").write_text('{"image": 3}')
    (tmp_path / "torn.json").write_text("[1, ")
    found = find_data(tmp_path).clients[""]
    assert ([path.name for path in found.files], found.images) == (["pairs.jsonl"], tmp_path)


def test_a_test_split_is_not_trained_on(kept, tmp_path):
    for name in ("train-0.parquet", "validation-0.parquet", "test-0.parquet", "latest.parquet"):
        shutil.copy(kept / "parquet" / "pairs.parquet", tmp_path / name)
    found = find_data(tmp_path)
    assert [path.name for path in found.clients[""].files] == ["latest.parquet", "train-0.parquet"]
    assert found.unused == (
        "test-0.parquet: a test or validation split",
        "validation-0.parquet: a test or validation split",
    )


def test_folders_of_splits_are_no_organisations(kept, tmp_path):
    laid_out(kept, tmp_path, train="webdataset", val="webdataset")
    found = find_data(tmp_path)
    assert list(found.clients) == [""]
    assert found.clients[""].folder == tmp_path / "train"
    assert found.unused == ("val/: a test or validation split",)


def test_lists_of_downloads_next_to_shards_are_no_pairs(kept, tmp_path):
    shutil.copy(kept / "webdataset" / "shard-0000.tar", tmp_path / "00000.tar")
    pq.write_table(pa.table({"url": ["http://x"], "caption": ["a"]}), tmp_path / "00000.parquet")
    (tmp_path / "00000_stats.json").write_text('{"count": 4}')
    data = find_data(tmp_path)
    assert (data.format, len(data.clients[""].files)) == ("webdataset", 1)


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ({"a": "llava", "b": "webdataset"}, "several formats .*a llava, b webdataset"),
        ({"a/x": "llava", "a/y": "llava", "b": "llava"}, "a: holds several collections itself"),
    ],
)
def test_what_one_run_cannot_read_is_refused(kept, tmp_path, layout, message):
    with pytest.raises(UserError, match=message):
        find_data(laid_out(kept, tmp_path, **layout))


def test_two_formats_in_one_folder_are_refused(kept, tmp_path):
    shutil.copytree(kept / "llava", tmp_path, dirs_exist_ok=True)
    shutil.copy(kept / "webdataset" / "shard-0000.tar", tmp_path)
    with pytest.raises(UserError, match=r"several formats: llava \(pairs\.json\), webdataset \(shard-0000\.tar\)"):
        find_data(tmp_path)


def test_images_that_are_not_there_are_named(tmp_path):
    (tmp_path / "pairs.json").write_text(json.dumps([{"image": "x/1.png", "caption": "red"}]))
    with pytest.raises(UserError, match=r"pairs\.json: its first image, x/1\.png, is neither in .*put the images into"):
        find_data(tmp_path)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "holds no pairs: expected"),
        (["a.jpg", "a.txt"], "pack each organisation's into a tar"),
        (["deep/a.jpg"], "images but no captions: write a pairs.json"),
        (["a.tar.gz"], r"a\.tar\.gz is packed: unpack it first"),
    ],
)
def test_a_folder_without_pairs_gets_what_to_do(tmp_path, names, message):
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(UserError, match=message):
        find_data(tmp_path)
    with pytest.raises(UserError, match="none: no such folder"):
        find_data(tmp_path / "none")


def test_the_tar_that_the_advice_packs_is_read(kept, tmp_path):
    folder = tmp_path / "loose"
    folder.mkdir()
    for number, image in enumerate(sorted((kept / "llava" / "images").iterdir())):
        shutil.copy(image, folder / f"{number}.png")
        (folder / f"{number}.txt").write_text("a red circle")
    (tmp_path / "packed").mkdir()
    with tarfile.open(tmp_path / "packed" / "pairs.tar", "w") as tar:
        tar.add(folder, arcname=".")
    from fedcmp.data.pairs import open_pairs

    found = find_data(tmp_path / "packed").clients[""]
    assert len(open_pairs(found.format, found.files)) == 4


def test_a_damaged_parquet_file_is_not_left_out_in_silence(kept, tmp_path, monkeypatch):
    """pyarrow may end its process on one: it is asked in another process, whatever it is asked."""
    monkeypatch.setattr(pq, "read_schema", None)
    shutil.copy(kept / "parquet" / "pairs.parquet", tmp_path / "a.parquet")
    torn = tmp_path / "b.parquet"
    torn.write_bytes((kept / "parquet" / "pairs.parquet").read_bytes()[:-100])
    found = find_data(tmp_path).clients[""]
    assert [path.name for path in found.files] == ["a.parquet", "b.parquet"]
    with pytest.raises(UserError, match=r"b\.parquet: cannot be read as parquet"):
        open_pairs(found.format, found.files)
    pq.write_table(pa.table({"url": ["a"], "caption": ["b"]}), torn)
    assert [path.name for path in find_data(tmp_path).clients[""].files] == ["a.parquet"]
