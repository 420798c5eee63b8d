"""Another image under an old name is noticed, whatever its size and time; unchanged files are not read again."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedcmp.data import contents
from fedcmp.data.checked import read_checked
from fedcmp.data.pairs import OpenedPairs, first_pairs, open_pairs
from fedcmp.data.quality import BadPair
from fedcmp.data.store import ensure_feature_store

from .helpers import FakeEncoder, encoded, picture, write_llava, write_tar
from .test_parquet import hugging_face, write

RECORDS: list[Any] = [{"image": f"{n}.bmp", "caption": f"c{n}"} for n in range(4)]


def bmp(number: int) -> bytes:
    """Images without compression: all of one size."""
    return encoded(picture(number), "BMP")


def llava(folder: Path, numbers: list[int]) -> OpenedPairs:
    for name, number in enumerate(numbers):
        (folder / f"{name}.bmp").write_bytes(bmp(number))
    return open_pairs("llava", write_llava(folder, RECORDS), contents=folder / "contents")


def webdataset(folder: Path, numbers: list[int]) -> OpenedPairs:
    samples = [{"__key__": f"{n}", "bmp": bmp(number), "txt": b"c"} for n, number in enumerate(numbers)]
    return open_pairs("webdataset", write_tar(folder / "s.tar", samples), contents=folder / "contents")


def parquet(folder: Path, numbers: list[int]) -> OpenedPairs:
    columns = hugging_face(4)
    columns["image"] = [{"bytes": bmp(number), "path": ""} for number in numbers]
    return open_pairs("parquet", write(folder / "a.parquet", columns), contents=folder / "contents")


@pytest.mark.parametrize("made", [llava, webdataset, parquet])
@pytest.mark.parametrize("late", [False, True])
def test_a_replaced_image_gets_features_of_its_own(
    tmp_path: Path, made: Callable[[Path, list[int]], OpenedPairs], late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the same name, size and times as the one before it."""
    monkeypatch.setattr(contents, "YOUNG", 0 if late else 10**18)
    old = made(tmp_path, [0, 1, 2, 3])
    before = ensure_feature_store(old, FakeEncoder(), tmp_path / "features").features([0, 1, 2, 3])
    times = {path: path.stat() for path in tmp_path.iterdir() if path.is_file()}
    new = made(tmp_path, [0, 1, 9, 3])
    for path, status in times.items():
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert new.fingerprint() != old.fingerprint()
    after = ensure_feature_store(new, FakeEncoder(), tmp_path / "features").features([0, 1, 2, 3])
    assert [bool((before[n] == after[n]).all()) for n in range(4)] == [True, True, False, True]


@pytest.mark.parametrize("made", [llava, webdataset, parquet])
def test_what_was_read_is_known_again(
    tmp_path: Path, made: Callable[[Path, list[int]], OpenedPairs], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents, "YOUNG", 0)
    first = made(tmp_path, [0, 1, 2, 3])
    time.sleep(0.02)  # the file system's clock
    read: list[tuple[int, int]] = []
    expected = first.fingerprint(lambda done, total: read.append((done, total)))
    assert read
    assert first.fingerprint(lambda done, total: read.append((done, total))) == expected
    path = tmp_path / {"llava": "pairs.json", "webdataset": "s.tar", "parquet": "a.parquet"}[made.__name__]
    again = open_pairs(made.__name__, path, contents=tmp_path / "contents")  # type: ignore[arg-type]
    known: list[tuple[int, int]] = []
    assert again.fingerprint(lambda done, total: known.append((done, total))) == expected
    assert known == []
    assert again.read_image(2) == bmp(2)


def test_a_file_that_may_change_unseen_is_read_again(tmp_path: Path) -> None:
    source = llava(tmp_path, [0, 1, 2, 3])
    source.fingerprint()
    (table,) = (tmp_path / "contents").iterdir()
    kept = read_checked(table)
    assert kept is not None
    assert not kept["files"].any()  # all were written just now
    data = bytearray(table.read_bytes())
    data[-3] ^= 1
    table.write_bytes(data)
    assert read_checked(table) is None
    assert open_pairs("llava", tmp_path / "pairs.json", contents=tmp_path / "contents").fingerprint() == (
        source.fingerprint()
    )


def test_an_image_that_changes_during_a_run_is_a_bad_pair(tmp_path: Path) -> None:
    for made, file in ((llava, "2.bmp"), (webdataset, "s.tar")):
        source = made(tmp_path, [0, 1, 2, 3])
        source.fingerprint()
        data = bytearray((tmp_path / file).read_bytes())
        place = data.index(bmp(2)) + 100
        data[place] ^= 255
        (tmp_path / file).write_bytes(data)
        with pytest.raises(BadPair, match=r"changed: .*other bytes than when the run began"):
            source.read_image(2)
        assert source.read_image(1) == bmp(1)


def test_a_missing_image_that_comes_back_is_another_source(tmp_path: Path) -> None:
    source = llava(tmp_path, [0, 1, 2, 3])
    (tmp_path / "2.bmp").unlink()
    without = source.fingerprint()
    with pytest.raises(BadPair, match="missing"):
        source.read_image(2)
    assert llava(tmp_path, [0, 1, 2, 3]).fingerprint() != without


@pytest.mark.parametrize("made", [llava, webdataset, parquet])
def test_of_the_first_pairs_only_their_images_are_read(
    tmp_path: Path, made: Callable[[Path, list[int]], OpenedPairs], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = made(tmp_path, [0, 1, 2, 3])
    read: list[int] = []
    name = "_file_digest" if made is parquet else "_image_digest"
    real = getattr(type(source), name)
    monkeypatch.setattr(type(source), name, lambda self, number: read.append(number) or real(self, number))
    some = first_pairs(source, 2)
    before = some.fingerprint()
    assert sorted(read) == ([0] if made is parquet else [0, 1])
    assert some.read_image(1) == source.read_image(1) == bmp(1)
    assert source.read_image(3) == bmp(3)
    assert before != source.fingerprint() != first_pairs(source, 3).fingerprint()
    assert first_pairs(made(tmp_path, [0, 1, 2, 3]), 2).fingerprint() == before


def test_a_copy_has_the_same_fingerprint(tmp_path: Path) -> None:
    found = set()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        found.add(llava(tmp_path / name, [0, 1, 2, 3]).fingerprint())
    assert len(found) == 1


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "contents").write_text("a file, no folder")
    assert llava(tmp_path, [0, 1, 2, 3]).fingerprint()
    assert "cannot be kept" in caplog.text
