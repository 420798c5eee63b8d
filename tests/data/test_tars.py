"""WebDataset shards from webdataset's own writer, and torn and odd ones."""

import io
import json
import pickle
import tarfile
import time
from pathlib import Path

import pytest

from fedcmp.data.pairs import open_pairs
from fedcmp.data.quality import BadPair
from fedcmp.errors import UserError

from .helpers import encoded, picture, write_tar


def samples(count: int, first: int = 0) -> list[dict[str, bytes]]:
    return [
        {"__key__": f"{n:06d}", "png": encoded(picture(n)), "txt": f"caption {n}".encode()}
        for n in range(first, first + count)
    ]


def raw_tar(path: Path, members: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return path


def test_what_webdataset_writes(tmp_path: Path) -> None:
    write_tar(tmp_path / "shard-0000.tar", samples(3))
    write_tar(tmp_path / "shard-0001.tar", samples(2))
    source = open_pairs("webdataset", tmp_path / "shard-{0000..0001}.tar")
    assert [source.pair(index).key for index in range(len(source))] == [
        "shard-0000/000000",
        "shard-0000/000001",
        "shard-0000/000002",
        "shard-0001/000000",
        "shard-0001/000001",
    ]
    assert source.pair(4).caption == "caption 1"
    assert source.read_image(4) == encoded(picture(1))
    assert source.locate(4) == "shard-0001.tar: 000001.png"
    assert source.name == "shard-0000.tar and 1 more"
    assert list(source.rejected) == []


def test_shard_lists(tmp_path: Path) -> None:
    for name in ("a-1", "a-2", "b"):
        write_tar(tmp_path / f"{name}.tar", samples(1))
    odd = write_tar(tmp_path / "odd[1]{x}.tar", samples(1))

    def names(*paths: Path) -> list[str]:
        source = open_pairs("webdataset", list(paths))
        return [source.pair(index).key.split("/")[0] for index in range(len(source))]

    assert names(tmp_path) == ["a-1", "a-2", "b", "odd[1]{x}"]
    assert names(tmp_path / "a-*.tar") == ["a-1", "a-2"]
    assert names(tmp_path / "{b,a-?}.tar") == ["b", "a-1", "a-2"]
    assert names(odd) == ["odd[1]{x}"]
    for wrong in ("a-{1..3}.tar", "c-*.tar", "a-3.tar"):
        with pytest.raises(UserError, match="no such shard"):
            names(tmp_path / wrong)
    (tmp_path / "sub").mkdir()
    with pytest.raises(UserError, match=r"no \.tar files"):
        names(tmp_path / "sub")
    with pytest.raises(UserError, match="named twice"):
        names(tmp_path / "b.tar", tmp_path / "{a-1,b}.tar")
    with pytest.raises(UserError):
        names(tmp_path / "${HOME}.tar")


def test_same_shard_names_in_two_folders(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        write_tar(tmp_path / folder / "s.tar", samples(1))
    source = open_pairs("webdataset", [tmp_path / "one", tmp_path / "two"])
    assert [source.pair(index).key for index in range(2)] == ["s/000000", "s~2/000000"]


def test_captions_from_json_and_text(tmp_path: Path) -> None:
    image = encoded(picture(0))
    path = raw_tar(
        tmp_path / "s.tar",
        [
            ("a.png", image),
            ("a.json", json.dumps({"caption": " from\njson ", "group": "photos"}).encode()),
            ("b.JPG", image),
            ("b.json", json.dumps({"text": "from text"}).encode()),
            ("c.png", image),
            ("c.txt", "\ufefffrom txt".encode()),
            ("c.json", json.dumps({"caption": "not this", "group": 3}).encode()),
        ],
    )
    source = open_pairs("webdataset", path)
    found = [(pair.caption, pair.group) for pair in map(source.pair, range(3))]
    assert found == [("from json", "photos"), ("from text", None), ("from txt", "3")]


def test_odd_members(tmp_path: Path) -> None:
    image = encoded(picture(0))
    path = raw_tar(
        tmp_path / "s.tar",
        [
            ("./deep/z.txt", b"the caption comes first"),
            ("noimage.txt", b"alone"),
            ("nocaption.png", image),
            ("twice.png", image),
            ("twice.jpg", image),
            ("twice.txt", b"one"),
            ("twice.txt", b"two"),
            ("empty.png", image),
            ("empty.txt", b""),
            ("blank.png", image),
            ("blank.txt", b" \n"),
            ("bytes.png", image),
            ("bytes.txt", b"\xff\xfe"),
            ("badjson.png", image),
            ("badjson.json", b"{"),
            ("nojson.png", image),
            ("nojson.json", b'{"width": 3}'),
            ("list.png", image),
            ("list.json", b"[]"),
            ("long.png", image),
            ("long.txt", b"x" * (2**20 + 1)),
            ("._a.png", b"resource fork"),
            ("a.cls", b"3"),
            ("a.b.png", image),
            ("./deep/z.png", image),
        ],
    )
    source = open_pairs("webdataset", path)
    assert [source.pair(index).caption for index in range(len(source))] == ["the caption comes first", "one"]
    assert source.read_image(0) == image
    assert source.ignored == {"hidden members": 1, ".cls members": 1}
    assert sorted((bad.place.removeprefix("s.tar: "), bad.reason) for bad in source.rejected) == [
        ("a.b.png", "no caption"),
        ("badjson.png", "malformed record"),
        ("blank.png", "empty caption"),
        ("bytes.png", "not UTF-8"),
        ("empty.png", "empty caption"),
        ("list.png", "malformed record"),
        ("long.png", "too large"),
        ("nocaption.png", "no caption"),
        ("noimage.txt", "no image"),
        ("nojson.png", "no caption"),
        ("twice.jpg", "several images"),
        ("twice.txt", "several captions"),
    ]


def test_a_cut_at_any_byte_keeps_what_is_whole(tmp_path: Path) -> None:
    whole = write_tar(tmp_path / "whole.tar", samples(6)).read_bytes()
    other = write_tar(tmp_path / "other.tar", samples(1))
    with tarfile.open(tmp_path / "whole.tar") as tar:
        ends = [entry.offset_data + entry.size for entry in tar]  # png, txt, png, txt, ...
    torn = tmp_path / "torn.tar"
    for cut in [
        *range(0, 1200, 100),
        *range(1200, len(whole) - 10240, 333),
        ends[-1] - 1,
        ends[-1],
        ends[5],
        ends[5] + 1,
    ]:
        torn.write_bytes(whole[:cut])
        source = open_pairs("webdataset", [torn, other])
        complete = sum(end <= cut for end in ends) // 2
        assert len(source) == complete + 1
        assert [bad.place for bad in source.rejected if bad.reason == "torn shard"] == ["torn.tar"]
        assert all(bad.reason in ("torn shard", "no caption") for bad in source.rejected)
        for index in range(complete):
            assert source.read_image(index) == encoded(picture(index))


def test_a_damaged_header_in_the_middle_is_a_tear(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "s.tar", samples(4))
    with tarfile.open(path) as tar:
        header = tar.getmembers()[4].offset
    data = bytearray(path.read_bytes())
    data[header : header + 512] = b"\x55" * 512
    path.write_bytes(data)
    source = open_pairs("webdataset", path)
    assert len(source) == 2
    assert [(bad.reason, bad.detail) for bad in source.rejected] == [
        ("torn shard", f"cut off or damaged at byte {header:,}")
    ]


def test_what_is_no_tar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "s.tar"
    path.write_bytes(b"<html>not found</html>" * 99)
    with pytest.raises(UserError, match="not an uncompressed tar"):
        open_pairs("webdataset", path)
    monkeypatch.setattr(time, "time", lambda: 1_700_000_111.0)  # of this time's gzip tarfile thinks that it is a tar
    with tarfile.open(path, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("a.png"), io.BytesIO())
    path.write_bytes(path.read_bytes() + bytes(600))
    tarfile.open(path, "r:").close()
    with pytest.raises(UserError, match="not an uncompressed tar"):
        open_pairs("webdataset", path)
    with pytest.raises(UserError, match=r"no usable pairs \(no members\)"):
        open_pairs("webdataset", raw_tar(path, []))


def test_the_fingerprint_belongs_to_the_content(tmp_path: Path) -> None:
    base = [("a.png", b"12345"), ("a.txt", b"one"), ("b.png", b"12"), ("b.txt", b"two")]

    def fingerprint(members: list[tuple[str, bytes]]) -> str:
        return open_pairs("webdataset", raw_tar(tmp_path / "s.tar", members)).fingerprint()

    reference = fingerprint(base)
    assert fingerprint([base[1], base[0], *base[2:]]) == reference  # a pair's members in another order
    assert fingerprint([base[0], ("a.txt", b"on"), *base[2:]]) != reference
    assert fingerprint([("a.png", b"1234"), *base[1:]]) != reference
    assert fingerprint(base[2:] + base[:2]) != reference
    assert fingerprint([("a.jpg", b"12345"), *base[1:]]) != reference


def test_a_pickled_source_reads_on_and_a_cut_file_is_noticed(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "s.tar", samples(3))
    source = open_pairs("webdataset", path)
    assert source.read_image(2) == encoded(picture(2))
    # what is pickled here is our own object, as a DataLoader sends it to its worker processes
    copy = pickle.loads(pickle.dumps(source))
    assert copy.pair(2) == source.pair(2)
    assert copy.read_image(2) == encoded(picture(2))
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(BadPair, match="truncated"):
        source.read_image(2)
