"""Feature stores torn in every way: named, and mended with what is whole."""

import json
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fedcmp.data import opened_store
from fedcmp.data.opened_store import open_verified_store
from fedcmp.data.store import build_feature_store, ensure_feature_store, open_feature_store, store_folder
from fedcmp.errors import UserError

from .helpers import FakeEncoder, list_source
from .stores import MISSING, built, files


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0\0\0\0")


def garble_header(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:20] + b"\xff" + data[21:])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def other_rows(path: Path) -> None:
    path.write_bytes(path.with_name("shard-00000.safetensors").read_bytes())


def other_checksum(path: Path) -> None:
    data = path.read_bytes()
    at = data.index(b"sha256") + 12
    path.write_bytes(data[:at] + (b"0" if data[at : at + 1] != b"0" else b"1") + data[at + 1 :])


@pytest.mark.parametrize("damage", [Path.unlink, cut, lengthen, garble_header, empty, other_rows, other_checksum])
def test_torn_shards_are_named_and_mended(
    tmp_path: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    store = built(tmp_path)
    target = store_folder(tmp_path, store.key)
    before = files(target)
    torn = target / "shard-00001.safetensors"
    damage(torn)
    with pytest.raises(UserError, match=r"shard-00001\.safetensors: .*: delete the folder") as caught:
        open_feature_store(tmp_path, store.key)
    assert "\n" not in str(caught.value)
    source = list_source(20, missing=MISSING)
    with caplog.at_level(logging.WARNING, "fedcmp.data"):
        ensure_feature_store(source, FakeEncoder(), tmp_path, max_bad_fraction=0.2)
    assert "shard-00001.safetensors" in caplog.text
    assert source.reads == list(range(6, 12))
    assert files(target) == before


@pytest.mark.parametrize(
    ("form", "tensor"),
    [("float16", "features"), ("float16", "checks"), ("int8", "features"), ("int8", "scales"), ("int8", "checks")],
)
def test_a_flipped_bit_never_reaches_a_reader(tmp_path: Path, form: str, tensor: str) -> None:
    """Whatever the file's time says: each row is held against its checksum when it is read."""
    store = built(tmp_path, feature_dtype=form)
    before = store.features([12])
    path = store_folder(tmp_path, store.key) / "shard-00002.safetensors"
    data, status = bytearray(path.read_bytes()), path.stat()
    begin = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])[tensor]["data_offsets"][0]
    data[8 + int.from_bytes(data[:8], "little") + begin] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    reopened = open_feature_store(tmp_path, store.key)
    with pytest.raises(UserError, match=r"shard-00002\.safetensors: holds other bytes than were written \(pair 12\)"):
        reopened.features(reopened.indices)
    source = list_source(20, missing=MISSING)
    options = {"feature_dtype": form, "max_bad_fraction": 0.2}
    mended = ensure_feature_store(source, FakeEncoder(), tmp_path, **options)  # type: ignore[arg-type]
    assert source.reads == list(range(12, 18))
    assert torch.equal(mended.features([12]), before)


def test_a_row_is_only_ever_its_own_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An index tensor that was changed gives no pair the features of another one."""
    store = built(tmp_path)
    real = opened_store.read_shard

    def shifted(path: Path, *, key: str, verify: bool) -> Any:
        mapped = real(path, key=key, verify=verify)
        if 4 not in mapped.rows and 3 in mapped.rows:  # pair 4 is bad: its place is free
            mapped.rows[mapped.rows == 3] = 4
        return mapped

    monkeypatch.setattr(opened_store, "read_shard", shifted)
    with pytest.raises(UserError, match="holds other bytes than were written"):
        open_feature_store(tmp_path, store.key).features([4])


def test_a_store_is_read_through_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = built(tmp_path)
    monkeypatch.setattr(opened_store, "YOUNG", 0)
    time.sleep(0.02)  # the file system's clock
    verified: list[bool] = []
    real = opened_store.read_shard

    def noted(path: Path, *, key: str, verify: bool) -> Any:
        verified.append(verify)
        return real(path, key=key, verify=verify)

    monkeypatch.setattr(opened_store, "read_shard", noted)
    for _ in range(2):
        ensure_feature_store(list_source(20, missing=MISSING), FakeEncoder(), tmp_path, max_bad_fraction=0.2)
    assert verified == [True] * 4 + [False] * 4
    place = store_folder(tmp_path, store.key)
    (place / "shard-00001.safetensors").touch()
    verified.clear()
    open_verified_store(tmp_path, store.key)
    assert verified == [False, True, False, False]
    (place / "verified.json").write_text("[")
    verified.clear()
    open_verified_store(tmp_path, store.key)
    assert verified == [True] * 4


@pytest.mark.parametrize("claim", [2**70, 2**40, -1, "many", None, 1e300])
def test_an_index_that_claims_any_number_of_pairs_is_one_line(tmp_path: Path, claim: object) -> None:
    store = built(tmp_path)
    path = store_folder(tmp_path, store.key) / "index.json"
    whole = json.loads(path.read_text())
    for change in ({"num_pairs": claim}, {"patches": claim}, {"shards": [{**whole["shards"][0], "stop": claim}]}):
        path.write_text(json.dumps(whole | change))
        with pytest.raises(UserError, match="delete the folder, then it is computed anew") as caught:
            open_feature_store(tmp_path, store.key)
        assert "\n" not in str(caught.value)


def test_a_flipped_bit_is_found_on_request(tmp_path: Path) -> None:
    store = built(tmp_path)
    path = store_folder(tmp_path, store.key) / "shard-00002.safetensors"
    before, data = path.read_bytes(), bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    open_feature_store(tmp_path, store.key)
    with pytest.raises(UserError, match=r"shard-00002.* other bytes than its checksum says"):
        open_feature_store(tmp_path, store.key, verify=True)
    source = list_source(20, missing=MISSING)
    build_feature_store(source, FakeEncoder(), tmp_path, max_bad_fraction=0.2)
    assert source.reads == list(range(12, 18))
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda index: index.update(key="0" * 64), "stale"),
        (lambda index: index.update(format=0), "stale"),
        (lambda index: index.pop("dtype"), "damaged"),
        (lambda index: index["shards"].pop(), "do not cover all pairs"),
        (lambda index: index["shards"][0].update(rows=1), "differs from index.json"),
        (lambda index: index.update(width=5), r"not \(n, P, D\)"),
        (lambda index: index.update(dtype="bfloat16"), r"not \(n, P, D\)"),
    ],
)
def test_a_stale_or_damaged_index(tmp_path: Path, change: Callable[[dict], object], message: str) -> None:
    store = built(tmp_path)
    path = store_folder(tmp_path, store.key) / "index.json"
    before = path.read_bytes()
    index = json.loads(before)
    change(index)
    path.write_text(json.dumps(index))
    with pytest.raises(UserError, match=message):
        open_feature_store(tmp_path, store.key)
    source, encoder = list_source(20, missing=MISSING), FakeEncoder()
    ensure_feature_store(source, encoder, tmp_path, max_bad_fraction=0.2)
    assert source.reads == []  # the shards were whole
    assert path.read_bytes() == before
    path.write_text("{")
    with pytest.raises(UserError, match=r"index\.json: damaged"):
        open_feature_store(tmp_path, store.key)


def test_shards_of_another_store_are_not_taken(tmp_path: Path) -> None:
    ours, theirs = built(tmp_path), build_feature_store(list_source(20), FakeEncoder(scale=2), tmp_path, shard_size=6)
    assert ours.key != theirs.key
    target = store_folder(tmp_path, ours.key)
    for path in store_folder(tmp_path, theirs.key).glob("*.safetensors"):
        (target / path.name).write_bytes(path.read_bytes())
    with pytest.raises(UserError, match="belongs to another store"):
        open_feature_store(tmp_path, ours.key)
    with pytest.raises(UserError, match="other bytes than were written"):  # the files that were mapped are others now
        ours.features(ours.indices)
    mended = ensure_feature_store(list_source(20, missing=MISSING), FakeEncoder(), tmp_path, max_bad_fraction=0.2)
    assert torch.equal(mended.features(mended.indices) * 2, theirs.features(mended.indices))
