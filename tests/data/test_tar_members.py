"""Which members of a shard make a pair: keys with dots, fields with dots, all endings; and hostile headers."""

import tarfile
from pathlib import Path

import pytest

from fedcmp.data.pairs import open_pairs
from fedcmp.data.tar_members import IMAGES, Member, samples_of

from .helpers import encoded, picture
from .test_tars import raw_tar


def made(*names: str) -> tuple[dict[str, tuple[str, str]], list[str], dict[str, int]]:
    """Complete samples (key -> image, caption), the keys of the others, what is ignored."""
    found = samples_of([Member(name, 0, 1) for name in names])
    whole = {one.base: (one.image.name, one.text.name or one.record.name) for one in found.samples if one.complete}
    return whole, [one.base for one in found.samples if not one.complete], dict(found.ignored)


def test_a_key_may_hold_dots() -> None:
    names = [f"scan_v1.{n}_0{n}.{ending}" for n in range(3) for ending in ("png", "txt")]
    whole, broken, ignored = made(*names, "000.png", "000.txt", "d.e/2024.05.03.jpg", "d.e/2024.05.03.json")
    assert whole == {
        "scan_v1.0_00": ("scan_v1.0_00.png", "scan_v1.0_00.txt"),
        "scan_v1.1_01": ("scan_v1.1_01.png", "scan_v1.1_01.txt"),
        "scan_v1.2_02": ("scan_v1.2_02.png", "scan_v1.2_02.txt"),
        "000": ("000.png", "000.txt"),
        "d.e/2024.05.03": ("d.e/2024.05.03.jpg", "d.e/2024.05.03.json"),
    }
    assert (broken, ignored) == ([], {})


def test_fields_may_hold_dots_as_webdatasets_do() -> None:
    assert made("1.image.jpg", "1.caption.txt", "2.png", "2.text.txt", "1.mask.png") == (
        {"1": ("1.image.jpg", "1.caption.txt"), "2": ("2.png", "2.text.txt")},
        [],
        {".mask.png members": 1},
    )
    assert made("1.jpg", "1.txt", "1.seg.png", "1.meta.json", "1.view_2.a3.png", "1.cls") == (
        {"1": ("1.jpg", "1.txt")},
        [],
        {".seg.png members": 1, ".meta.json members": 1, ".view_2.a3.png members": 1, ".cls members": 1},
    )
    assert made("1.jpg", "1.txt", "1.seg.png", "1.seg.json") == (
        {"1": ("1.jpg", "1.txt")},
        [],
        {".seg.png members": 1, ".seg.json members": 1},
    )
    assert set(made("a.jpg", "a.txt", "a.left.png", "a.left.txt", "a.2.png", "a.2.json")[0]) == {"a", "a.left", "a.2"}
    assert made("v1.2_1.image.png", "v1.2_1.caption.txt", "v1.2_2.image.png", "v1.2_2.caption.txt") == (
        {f"v1.2_{n}": (f"v1.2_{n}.image.png", f"v1.2_{n}.caption.txt") for n in (1, 2)},
        [],
        {},
    )


@pytest.mark.parametrize(
    "others",
    [
        [],
        ["scan_v1.9_9.png", "scan_v1.9_9.txt"],
        ["000.png", "000.txt"],
        ["scan_v1.3_3.cls"],
        ["scan_v1.png", "scan_v1.txt"],
    ],
)
def test_no_image_meets_the_caption_of_another(others: list[str]) -> None:
    """One lost its caption, another one its image; their names are equal up to the first dot."""
    whole, broken, _ = made("scan_v1.1_1.png", "scan_v1.2_2.txt", *others)
    assert set(broken) == {"scan_v1.1_1", "scan_v1.2_2"}
    assert all(image.rpartition(".")[0] == caption.rpartition(".")[0] for image, caption in whole.values())


def test_names_of_words_are_not_mixed_where_the_shard_has_dotted_keys() -> None:
    whole, broken, _ = made("john.smith.png", "john.doe.txt", "ann.lee.png", "ann.lee.txt")
    assert (set(whole), set(broken)) == ({"ann.lee"}, {"john.smith", "john.doe"})


def test_every_member_is_a_pairs_or_refused_or_counted() -> None:
    names = [
        "a.png",
        "a.txt",
        "b.b.png",
        "c.heic",
        "c.txt",
        "noending",
        "__MACOSX/._a.png",
        ".x.png",
        "d.npy",
        "e/f.g/h",
    ]
    found = samples_of([Member(name, 0, 1) for name in names])
    used = sum(bool(m.name) for one in found.samples for m in (one.image, one.text, one.record))
    assert used + len(found.doubled) + sum(found.ignored.values()) == len(names)
    assert found.unread == {"c": "c.heic"}


@pytest.mark.parametrize("ending", sorted([*IMAGES, "AVIF", "Jp2"]))
def test_every_ending_of_an_image_is_known(ending: str) -> None:
    assert made(f"a.{ending}", "a.txt")[0] == {"a": (f"a.{ending}", "a.txt")}


@pytest.mark.parametrize(
    ("ending", "format"), [("avif", "AVIF"), ("jp2", "JPEG2000"), ("webp", "WEBP"), ("ppm", "PPM")]
)
def test_members_of_newer_formats_are_read(tmp_path: Path, ending: str, format: str) -> None:
    image = encoded(picture(1, (16, 16)), format)
    source = open_pairs("webdataset", raw_tar(tmp_path / "s.tar", [(f"a.{ending}", image), ("a.caption", b"a cat")]))
    assert (source.read_image(0), source.pair(0).caption) == (image, "a cat")


def test_a_format_that_is_not_read_is_named(tmp_path: Path) -> None:
    members = [("a.heic", b"-"), ("a.txt", b"a cat"), ("b.png", encoded(picture(0))), ("b.txt", b"b")]
    source = open_pairs("webdataset", raw_tar(tmp_path / "s.tar", members))
    assert [(bad.reason, bad.detail) for bad in source.rejected] == [
        ("no image", "a.heic: images of this format are not read")
    ]


def test_names_that_cannot_be_written_stay_apart(tmp_path: Path) -> None:
    path = tmp_path / "s.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT, encoding="utf-8", errors="surrogateescape") as tar:
        for name in ("\udcfe", "\udcff"):
            for ending, data in (("png", encoded(picture(0))), ("txt", name.encode("utf-8", "surrogateescape") + b"a")):
                (tmp_path / "x").write_bytes(data if ending == "png" else b"a cat")
                tar.add(tmp_path / "x", f"{name}k.{ending}")
    source = open_pairs("webdataset", path)
    assert [source.pair(index).key for index in range(2)] == ["s/k", "s/k#2"]


@pytest.mark.parametrize(
    "size",
    [
        b"\x80" + (2**70).to_bytes(11, "big"),
        b"\x80" + (2**63).to_bytes(11, "big"),
        b"\xff" * 11 + b"\x00",  # -256: back to its own header, and round and round
        b"\xff" * 9 + b"\xfc\x00\x00",
        b"77777777777\0",
    ],
)
@pytest.mark.parametrize("kind", [b"0", b"L", b"x", b"S"])
def test_sizes_of_no_file_are_a_tear(tmp_path: Path, size: bytes, kind: bytes) -> None:
    members = [("a.png", encoded(picture(0))), ("a.txt", b"a cat"), ("b.png", b"-"), ("b.txt", b"b")]
    path = raw_tar(tmp_path / "s.tar", members)
    data = bytearray(path.read_bytes())
    with tarfile.open(path) as tar:
        at = tar.getmember("b.png").offset
    data[at + 124 : at + 136] = size
    data[at + 156 : at + 157] = kind
    data[at + 148 : at + 156] = b" " * 8
    data[at + 148 : at + 156] = b"%06o\0 " % sum(data[at : at + 512])
    path.write_bytes(data)
    source = open_pairs("webdataset", path)
    assert [source.pair(index).caption for index in range(len(source))] == ["a cat"]
    assert "torn shard" in [bad.reason for bad in source.rejected]
