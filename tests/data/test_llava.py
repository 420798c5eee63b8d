"""LLaVA-format files with every oddity that real ones have."""

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest

from fedcmp.data.pairs import open_pairs
from fedcmp.data.quality import BadPair
from fedcmp.errors import UserError

from .helpers import conversation, encoded, picture, write_llava

ODD: list[Any] = [
    conversation("a red cat", id="one", image="a.png", group="photos"),
    {"id": "two", "conversations": [{"from": "human", "value": "Hello."}, {"from": "gpt", "value": "text only"}]},
    {"id": "three", "image": None, "caption": "text only too"},
    {"id": "four", "image": "b.png", "conversations": [{"from": "human", "value": "<image>"}]},
    conversation("  ", id="five", image="a.png"),
    conversation("two images", id="six", image=["a.png", "b.png"]),
    conversation("<image>\n 日本の 猫 cafe\u0301", id=7, image=["sub/c.png"]),
    {"image": "missing.png", "caption": "the picture is not there"},
    conversation("up", id="nine", image="../../etc/passwd"),
    conversation("root", id="ten", image="/etc/passwd"),
    conversation(None, id="eleven", image="a.png"),
    "a string",
    conversation("a number for a path", id="thirteen", image=3),
    {"id": "fourteen", "image": "./sub/../a.png", "caption": "inside after all"},
    {"id": "fifteen", "image": "sub\\c.png", "caption": "written on Windows"},
    {"id": "sixteen", "image": "C:\\c.png", "caption": "a drive"},
    {"id": "seventeen", "image": "sub/../..", "caption": "above"},
    {"id": "eighteen", "image": "12:30 ..b.png", "caption": "dots and colons are no crime"},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    for number, name in enumerate(["a.png", "b.png", "sub/c.png", "12:30 ..b.png"]):
        (tmp_path / name).write_bytes(encoded(picture(number)))
    return tmp_path


@pytest.mark.parametrize("lines", [False, True])
def test_odd_records(folder: Path, lines: bool) -> None:
    source = open_pairs("llava", write_llava(folder, ODD, lines=lines), folder)
    pairs = [source.pair(index) for index in range(len(source))]
    assert [(pair.key, pair.caption, pair.group) for pair in pairs] == [
        ("one", "a red cat", "photos"),
        ("7", "日本の 猫 caf\u00e9", None),
        ("missing.png", "the picture is not there", None),
        ("fourteen", "inside after all", None),
        ("fifteen", "written on Windows", None),
        ("eighteen", "dots and colons are no crime", None),
    ]
    assert [(bad.key, bad.place, bad.reason) for bad in source.rejected] == [
        ("four", "pairs.json[3]", "no caption"),
        ("five", "pairs.json[4]", "empty caption"),
        ("six", "pairs.json[5]", "several images"),
        ("nine", "pairs.json[8]", "path outside the folder"),
        ("ten", "pairs.json[9]", "path outside the folder"),
        ("eleven", "pairs.json[10]", "no caption"),
        ("pairs.json[11]", "pairs.json[11]", "malformed record"),
        ("thirteen", "pairs.json[12]", "malformed record"),
        ("sixteen", "pairs.json[15]", "path outside the folder"),
        ("seventeen", "pairs.json[16]", "path outside the folder"),
    ]
    assert source.unused == {"text only": 2}
    assert source.read_image(1) == source.read_image(4) == encoded(picture(2))
    assert source.locate(1) == "pairs.json[6] sub/c.png"
    with pytest.raises(BadPair, match=r"missing: .*missing\.png"):
        source.read_image(2)


def test_a_line_that_is_no_json_is_one_bad_pair(folder: Path) -> None:
    path = folder / "pairs.jsonl"
    good = json.dumps({"image": "a.png", "caption": "é"})
    path.write_text(f"{good}\n\n{{torn\n{good}\n", "utf-8")
    source = open_pairs("llava", path)
    assert [source.pair(index).key for index in range(2)] == ["a.png", "a.png#2"]
    assert [bad.place for bad in source.rejected] == ["pairs.jsonl[2]"]
    assert source.locate(1) == "pairs.jsonl[3] a.png"


def test_keys_are_unique_and_stable(folder: Path) -> None:
    ids = ["a", "b", "a", "a#2", "a", "a#2", "b"]
    records = [{"id": id, "image": "a.png", "caption": str(n)} for n, id in enumerate(ids)]
    source = open_pairs("llava", write_llava(folder, records))
    keys = [source.pair(index).key for index in range(len(ids))]
    assert keys == ["a", "b", "a#2", "a#2#2", "a#3", "a#2#3", "b#2"]
    assert len(set(keys)) == len(keys)


def test_several_files_follow_each_other(folder: Path) -> None:
    first = write_llava(folder, [{"image": "a.png", "caption": "one"}], name="1.json")
    second = write_llava(folder, [{"image": "b.png", "caption": "two"}], name="2.jsonl", lines=True)
    source = open_pairs("llava", [first, second], folder)
    assert [source.pair(index).caption for index in range(2)] == ["one", "two"]
    assert source.locate(1) == "2.jsonl[0] b.png"
    assert source.name == "1.json and 1 more"
    assert source.fingerprint() != open_pairs("llava", [second, first], folder).fingerprint()


def test_the_fingerprint_belongs_to_the_content(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = write_llava(folder, ODD)
    fingerprint = open_pairs("llava", path).fingerprint()
    copy = tmp_path_factory.mktemp("copy")
    shutil.copyfile(path, copy / "renamed.json")
    assert open_pairs("llava", copy / "renamed.json", folder).fingerprint() == fingerprint
    path.write_text(path.read_text().replace("red cat", "bed cat"))
    assert open_pairs("llava", path).fingerprint() != fingerprint


def test_a_pickled_source_reads_on(folder: Path) -> None:
    source = open_pairs("llava", write_llava(folder, ODD))
    before = source.pair(0), source.read_image(0)
    # what is pickled here is our own object, as a DataLoader sends it to its worker processes
    copy = pickle.loads(pickle.dumps(source))
    assert (copy.pair(0), copy.read_image(0)) == before


def test_a_changed_file_is_noticed(folder: Path) -> None:
    path = write_llava(folder, ODD)
    source = open_pairs("llava", path)
    path.write_text("[]")
    with pytest.raises(BadPair):
        source.pair(0)
    assert source.locate(0) == "pairs.json[0] ?"


def test_odd_things_in_the_folder(folder: Path) -> None:
    names = ["sub", "a.png/b.png", "zero\0byte.png", "\ud800.png", "x" * 300 + ".png"]
    source = open_pairs("llava", write_llava(folder, [{"image": name, "caption": "odd"} for name in names]))
    reasons = []
    for index in range(len(names)):
        with pytest.raises(BadPair) as caught:
            source.read_image(index)
        reasons.append(caught.value.reason)
    assert reasons == ["not a file", "missing", "unreadable", "unreadable", "unreadable"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no usable pairs .no records."),
        ("[]", "no usable pairs"),
        ('[{"id": 1, "conversations": []}]', "1 text only"),
        ('{"data": [\n{"image": "a.png", "caption": "c"}]}', "no usable pairs .2 malformed record."),
        ("not json", "1 malformed record"),
        ('[{"image": "a.png", "caption": "c"}', "not valid JSON in record 1"),
    ],
)
def test_files_without_pairs(folder: Path, content: str, message: str) -> None:
    path = folder / "pairs.json"
    path.write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        open_pairs("llava", path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_files(folder: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.json: cannot be read"):
        open_pairs("llava", folder / "nowhere.json")
    with pytest.raises(UserError, match=r"no metadata\.jsonl files in this folder"):
        open_pairs("llava", folder)
    with pytest.raises(UserError, match="no such folder"):
        open_pairs("llava", write_llava(folder, ODD), folder / "nowhere")
