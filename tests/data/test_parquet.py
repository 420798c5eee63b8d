"""Parquet files as Hugging Face datasets and img2dataset write them, and as they should not be."""

import itertools
import json
import pickle
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcmp.config import parse_recipe
from fedcmp.data import parquet, parquet_rows
from fedcmp.data.pairs import open_pairs
from fedcmp.data.quality import BadPair
from fedcmp.errors import UserError
from fedcmp.preparation.sources import training_collections

from .helpers import encoded, picture, write_llava


def write(path: Path, columns: dict[str, Any], rows: int = 2) -> Path:
    """A file with row groups of two rows, unless told otherwise."""
    pq.write_table(pa.table(columns), path, row_group_size=rows)
    return path


def hugging_face(count: int, start: int = 0) -> dict[str, Any]:
    """The columns of a data set with Image() features."""
    pictures = [{"bytes": encoded(picture(n)), "path": f"{n}.png"} for n in range(start, start + count)]
    return {"image": pictures, "text": [f"caption {n}" for n in range(start, start + count)]}


def read(source: Any) -> list[tuple[Any, bytes]]:
    return [(source.pair(index), source.read_image(index)) for index in range(len(source))]


def test_the_same_pairs_as_in_llava_json(tmp_path: Path) -> None:
    ids = ["a", "b", "a", "a#2", "a", "a#2", "b", "Ü"]
    captions = ["one", "<image>\n two ", "three", "  ", "cafe\u0301", "six", "seven", "eight"]
    groups = ["x", None, "y", "x", "x", "x", "x", None]
    for number in range(8):
        (tmp_path / f"{number}.png").write_bytes(encoded(picture(number)))
    records = [{"id": ids[n], "image": f"{n}.png", "caption": captions[n], "group": groups[n]} for n in range(len(ids))]
    columns = {
        "image": [{"bytes": encoded(picture(n)), "path": f"{n}.png"} for n in range(8)],
        "caption": captions,
        "id": ids,
        "group": groups,
    }
    expected = open_pairs("llava", write_llava(tmp_path, list(records)))
    found = open_pairs("parquet", write(tmp_path / "pairs.parquet", columns, rows=3))
    assert read(found) == read(expected)
    assert [pair.key for pair, _ in read(found)] == ["a", "b", "a#2", "a#3", "a#2#2", "b#2", "Ü"]
    assert [(bad.key, bad.place, bad.reason) for bad in found.rejected] == [
        ("a#2", "pairs.parquet[3]", "empty caption")
    ]
    assert found.locate(3) == "pairs.parquet[4]"


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from(["a", "b", "a#2", "a#3", "b#2", "a#2#2", ""]), min_size=1, max_size=12), st.integers(1, 5)
)
def test_keys_are_numbered_as_in_llava_json(
    tmp_path_factory: pytest.TempPathFactory, ids: list[str], rows: int
) -> None:
    folder = tmp_path_factory.mktemp("keys")
    ids = [key or f"pairs/{row}" for row, key in enumerate(ids)]
    columns = {"jpg": [b"-"] * len(ids), "caption": ["c"] * len(ids), "key": ids}
    found = open_pairs("parquet", write(folder / "pairs.parquet", columns, rows=rows))
    keys = [found.pair(index).key for index in range(len(ids))]
    records = [{"id": key, "image": "a.png", "caption": "c"} for key in ids]
    expected = open_pairs("llava", write_llava(folder, list(records)))
    assert keys == [expected.pair(index).key for index in range(len(ids))]
    assert len(set(keys)) == len(keys)


def test_rows_without_ids_are_named_by_file_and_row(tmp_path: Path) -> None:
    for folder, start in (("one", 0), ("two", 3)):
        (tmp_path / folder / "data").mkdir(parents=True)
        write(tmp_path / folder / "data" / "train-0.parquet", hugging_face(3, start))
    source = open_pairs("parquet", [tmp_path / "one", tmp_path / "two" / "data"])
    pairs = read(source)
    assert [pair.key for pair, _ in pairs] == [f"train-0/{n}" for n in range(3)] + [f"train-0~2/{n}" for n in range(3)]
    assert [pair.caption for pair, _ in pairs] == [f"caption {n}" for n in range(6)]
    assert [data for _, data in pairs] == [encoded(picture(n)) for n in range(6)]
    assert source.name == "train-0.parquet and 1 more"
    assert source.locate(4) == "train-0.parquet[1]"


@pytest.mark.parametrize(
    ("picture_type", "text_type", "key_type"),
    [
        (pa.binary(), pa.string(), pa.int64()),
        (pa.large_binary(), pa.large_string(), pa.uint8()),
        (
            pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
            pa.dictionary(pa.int32(), pa.string()),
            pa.string(),
        ),
        (pa.struct([("path", pa.string()), ("bytes", pa.large_binary())]), pa.string(), pa.large_string()),
    ],
)
def test_every_plain_type_is_read(tmp_path: Path, picture_type: Any, text_type: Any, key_type: Any) -> None:
    pictures: list[Any] = [encoded(picture(n)) for n in range(3)]
    held = [{"bytes": data} for data in pictures] if pa.types.is_struct(picture_type) else pictures
    keys = ["7", "8", "9"] if key_type != pa.uint8() and key_type != pa.int64() else [7, 8, 9]
    table = {
        "img": pa.array(held, picture_type),
        "caption": pa.array(["one", "two", "one"], pa.string()).cast(text_type),
        "__key__": pa.array(keys, key_type),
        "group": pa.array([1, None, 2]),
    }
    found = read(open_pairs("parquet", write(tmp_path / "a.parquet", table)))
    assert [(pair.key, pair.caption, pair.group) for pair, _ in found] == [
        ("7", "one", "1"),
        ("8", "two", None),
        ("9", "one", "2"),
    ]
    assert [data for _, data in found] == pictures


def test_what_img2dataset_could_not_download_is_counted_apart(tmp_path: Path) -> None:
    columns = {
        "key": ["0", "1", "2"],
        "caption": ["one", "two", "three"],
        "status": ["success", "failed_to_download", "success"],
        "error_message": [None, "404", None],
        "jpg": [encoded(picture(0)), None, encoded(picture(2))],
    }
    source = open_pairs("parquet", write(tmp_path / "00000.parquet", columns))
    assert [pair.key for pair, _ in read(source)] == ["0", "2"]
    assert (source.unused, source.rejected) == ({"not downloaded": 1}, [])
    columns["status"] = ["failed_to_download"] * 3
    with pytest.raises(UserError, match=r"00001\.parquet: no usable pairs .3 not downloaded.: expected rows with"):
        open_pairs("parquet", write(tmp_path / "00001.parquet", columns))


def test_a_row_without_a_picture_or_a_caption_is_one_bad_pair(tmp_path: Path) -> None:
    columns = hugging_face(5)
    columns["image"][0], columns["image"][1] = None, {"bytes": None, "path": "/etc/passwd"}
    columns["text"][2] = None
    broken = pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff\xfe"]).buffers())
    columns["text"] = pa.chunked_array([pa.array(columns["text"][:4]), broken])
    source = open_pairs("parquet", write(tmp_path / "a.parquet", columns))
    assert [(bad.place, bad.reason) for bad in source.rejected] == [
        ("a.parquet[0]", "no image"),
        ("a.parquet[1]", "no image"),
        ("a.parquet[2]", "no caption"),
        ("a.parquet[4]", "not UTF-8"),
    ]
    assert len(source) == 1
    assert source.read_image(0) == encoded(picture(3))


def test_a_wildcard_names_files_and_order_counts(tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path / f"part-{number}.parquet", hugging_face(2, 2 * number))
    source = open_pairs("parquet", tmp_path / "part-*.parquet")
    assert [source.pair(index).caption for index in range(6)] == [f"caption {n}" for n in range(6)]
    some = open_pairs("parquet", tmp_path / "part-{0..1}.parquet")
    assert len(some) == 4
    turned = open_pairs("parquet", [tmp_path / "part-1.parquet", tmp_path / "part-0.parquet"])
    assert turned.fingerprint() != some.fingerprint()


def test_the_fingerprint_belongs_to_the_content(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = write(tmp_path / "a.parquet", hugging_face(5))
    before = open_pairs("parquet", path).fingerprint()
    copy = tmp_path_factory.mktemp("copy") / "a.parquet"
    shutil.copyfile(path, copy)
    assert open_pairs("parquet", copy).fingerprint() == before
    changed = [hugging_face(5) for _ in range(3)]
    changed[0]["text"][3] = "another"
    changed[1]["image"][3] = {"bytes": encoded(picture(3, (9, 9))), "path": "3.png"}
    changed[2]["group"] = ["x"] * 5
    others = {open_pairs("parquet", write(copy, columns)).fingerprint() for columns in changed}
    assert len(others | {before}) == 4


def test_only_the_row_group_that_is_asked_for_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_pairs("parquet", write(tmp_path / "a.parquet", hugging_face(12)))
    monkeypatch.setattr(parquet_rows, "KEEP_BYTES", 0)  # the last two row groups are kept all the same
    read_groups: list[tuple[int, str]] = []
    real = parquet_rows.PARQUET.read

    def counted(path: Path, groups: list[int], columns: list[str]) -> Any:
        read_groups.append((groups[0], columns[0]))
        return real(path, groups, columns)

    monkeypatch.setattr(parquet_rows.PARQUET, "read", counted)
    for index in (7, 6, 8, 7):
        assert source.read_image(index) == encoded(picture(index))
    assert read_groups == [(3, "image.bytes"), (4, "image.bytes")]
    read_groups.clear()
    for index in (0, 8):
        source.read_image(index)
    assert [number for number, _ in read_groups] == [0, 4]
    read_groups.clear()
    assert source.pair(5).caption == "caption 5"
    assert read_groups == [(2, "text")]


def test_threads_and_a_pickled_copy_read_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_rows, "KEEP_BYTES", 0)
    source = open_pairs("parquet", write(tmp_path / "a.parquet", hugging_face(30)))
    expected = read(source)
    # what is pickled here is our own object, as a DataLoader sends it to its worker processes
    copy = pickle.loads(pickle.dumps(source))
    order = np.random.default_rng(0).permutation(30).tolist()
    gate = threading.Barrier(4)

    def some(_thread: int) -> list[bytes]:
        gate.wait()
        return [copy.read_image(index) for index in order]

    with ThreadPoolExecutor(4) as pool:
        for got in pool.map(some, range(4)):
            assert got == [expected[index][1] for index in order]


def test_a_changed_or_lost_file_is_a_bad_pair(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", hugging_face(4))
    source = open_pairs("parquet", path)
    write(path, hugging_face(1))
    for index, read_one in itertools.product((1, 3), (source.pair, source.read_image)):
        with pytest.raises(BadPair):
            read_one(index)
    assert source.locate(3) == "a.parquet[3]"
    source = open_pairs("parquet", path)
    path.unlink()
    with pytest.raises(BadPair, match="missing"):
        source.read_image(0)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"pic": [b"-"], "caption": ["c"]},
            "no image column: expected image, images, jpg, .* or picture, found pic, caption",
        ),
        (
            {"image": [b"-"], "title": ["c"]},
            "no caption column: expected caption, captions, .* or description, found image, title",
        ),
        ({"image": ["a.png"], "caption": ["c"]}, "column image is string: expected the images themselves"),
        ({"image": [{"path": "a.png"}], "text": ["c"]}, "column image is struct<path: string>: expected the images"),
        ({"image": [{"bytes": "text"}], "text": ["c"]}, r"column image\.bytes is string: expected the images"),
        ({"image": [b"-"], "caption": [[1, 2]]}, r"column caption is list<.*: expected text, a list of it, or turns"),
        ({"image": [b"-"], "caption": ["c"], "id": [0.5]}, "column id is double: expected text or whole numbers"),
        ({"image": [b"-"], "caption": ["c"], "group": [[1]]}, "column group is list<.*expected text or whole numbers"),
        ({"image": [b"-"], "caption": [" "]}, "no usable pairs .1 empty caption.: expected rows with"),
        ({"image": pa.array([], pa.binary()), "caption": pa.array([], pa.string())}, "no usable pairs .no rows."),
    ],
)
def test_wrong_columns_are_named(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    path = write(tmp_path / "a.parquet", columns)
    with pytest.raises(UserError, match=message) as caught:
        open_pairs("parquet", path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_files_that_are_not_whole_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", hugging_face(4))
    whole = path.read_bytes()
    for content in (b"", b"no parquet at all", whole[:-20], whole[:200] + bytes(len(whole) - 300) + whole[-100:]):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"a\.parquet: cannot be read as parquet \(.*\): is it whole\?") as caught:
            open_pairs("parquet", path)
        assert "\n" not in str(caught.value)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no \.parquet files in this folder"):
        open_pairs("parquet", tmp_path / "empty")
    with pytest.raises(UserError, match="no such parquet file"):
        open_pairs("parquet", tmp_path / "nowhere.parquet")
    path.write_bytes(whole)
    with pytest.raises(UserError, match="is named twice"):
        open_pairs("parquet", [path, path])


def test_row_groups_that_are_too_large_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.parquet", hugging_face(4))
    monkeypatch.setattr(parquet, "MAX_GROUP_BYTES", 100)
    with pytest.raises(UserError, match=r"a\.parquet: column image\.bytes: row group 0 holds .* GiB .* 1000 rows"):
        open_pairs("parquet", path)


def test_a_recipe_may_name_parquet_files(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", hugging_face(4))
    recipe = parse_recipe({"data": {"format": "parquet", "pairs": str(path), "num_pairs": 3}}, "recipe.toml")
    collection = training_collections(recipe, lambda *_: None)[0]
    assert [collection.source.pair(index).key for index in range(len(collection.source))] == ["a/0", "a/1", "a/2"]
    with pytest.raises(UserError, match=r"data\.format = 'csv': must be 'world', 'llava', 'webdataset' or 'parquet'"):
        parse_recipe(json.loads('{"data": {"format": "csv"}}'), "recipe.toml")


def test_a_row_group_that_claims_less_than_no_rows_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So it is in a damaged file; the sum over all groups may be what pyarrow reads."""
    path = write(tmp_path / "a.parquet", hugging_face(6))
    describe = parquet.PARQUET.describe

    def claims(*arguments: Any) -> Any:
        schema, groups = describe(*arguments)
        groups[1]["rows"] = -3
        return schema, groups

    monkeypatch.setattr(parquet.PARQUET, "describe", claims)
    with pytest.raises(UserError, match=r"a\.parquet: cannot be read as parquet \(row group 1 claims -3 rows\)"):
        open_pairs("parquet", path)
