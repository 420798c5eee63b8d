"""Bytes at an offset."""

import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fedcmp.data import reading
from fedcmp.data.quality import BadPair
from fedcmp.data.reading import RandomReader, read_whole


def test_many_files_from_many_threads(tmp_path: Path) -> None:
    paths = [tmp_path / str(n) for n in range(reading.KEEP_OPEN * 3)]
    for n, path in enumerate(paths):
        path.write_bytes(bytes([n]) * 10)
    reader = RandomReader()
    open_files = Path("/proc/self/fd")
    before = len(list(open_files.iterdir())) if open_files.is_dir() else 0
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda n: reader.read(paths[n % len(paths)], 3, 4), range(500)))
    assert found == [bytes([n % len(paths)]) * 4 for n in range(500)]
    if before:
        assert len(list(open_files.iterdir())) <= before + reading.KEEP_OPEN + 4
    # what is pickled here is our own object, as a DataLoader sends it to its worker processes
    assert pickle.loads(pickle.dumps(reader)).read(paths[1], 0, 1) == b"\x01"


def test_what_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr(reading, "MAX_FILE_BYTES", 2)
    for path, reason in (("a", "too large"), ("folder", "not a file"), ("pipe", "not a file"), ("b", "missing")):
        with pytest.raises(BadPair) as caught:
            read_whole(tmp_path / path)
        assert caught.value.reason == reason
    with pytest.raises(BadPair, match="too large"):
        RandomReader().read(tmp_path / "a", 0, 3)
    with pytest.raises(BadPair, match="truncated"):
        RandomReader().read(tmp_path / "a", 2, 2)
    with pytest.raises(BadPair, match="missing"):
        RandomReader().read(tmp_path / "b", 0, 1)
