"""One shard's file."""

import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from fedcmp.data.quality import Rejected
from fedcmp.data.shards import Shard, TornShard, read_shard, shard_name, write_shard


def test_any_reader_of_safetensors_reads_a_shard(tmp_path: Path) -> None:
    features = torch.randn(2, 4, 3).bfloat16()
    bad = [Rejected("k", "place", "missing", "gone")]
    path = tmp_path / shard_name(6, 3)
    assert path.name == "shard-00002.safetensors"
    shard = write_shard(path, features, np.array([6, 8]), key="key", first=6, stop=9, bad=bad)
    tensors = load_file(path)
    assert torch.equal(tensors["features"], features)
    assert tensors["index"].tolist() == [6, 8]
    found = read_shard(path, key="key", verify=True)
    assert found.shard == shard
    assert found.scales is None
    assert found.shard.bad == tuple(bad)
    assert torch.equal(found.features, features)
    assert found.rows.tolist() == [6, 8]
    raw = features.reshape(2, -1).view(torch.uint8).numpy()
    assert found.checks.tolist() == [
        zlib.crc32(index.to_bytes(8, "little") + row.tobytes()) for index, row in zip((6, 8), raw, strict=True)
    ]
    with pytest.raises(TornShard, match="another store"):
        read_shard(path, key="other", verify=False)


@pytest.mark.parametrize(
    ("rows", "first", "stop", "message"),
    [
        ([6, 7], 6, 9, "another number of rows"),
        ([7, 6], 6, 8, "rows of other pairs"),
        ([5, 6], 6, 8, "rows of other pairs"),
        ([7, 8], 6, 8, "rows of other pairs"),
    ],
)
def test_rows_that_contradict_the_header(tmp_path: Path, rows: list[int], first: int, stop: int, message: str) -> None:
    path = tmp_path / "s.safetensors"
    write_shard(path, torch.zeros(2, 4, 3), np.array(rows), key="k", first=first, stop=stop, bad=[])
    with pytest.raises(TornShard, match=message):
        read_shard(path, key="k", verify=False)


def test_a_foreign_file(tmp_path: Path) -> None:
    path = tmp_path / "s.safetensors"
    save_file({"features": torch.zeros(1, 1, 1)}, path)
    with pytest.raises(TornShard, match="cut off or damaged"):
        read_shard(path, key="k", verify=False)
    with pytest.raises(TornShard, match="is missing"):
        read_shard(tmp_path / "nowhere", key="k", verify=False)


def test_features_are_mapped_not_read(tmp_path: Path) -> None:
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("needs /proc")
    path = tmp_path / "s.safetensors"
    rows = 20_000
    write_shard(path, torch.zeros(rows, 32, 64).half(), np.arange(rows), key="k", first=0, stop=rows, bad=[])

    def resident() -> int:
        return int(statm.read_text().split()[1]) * 4096

    before = resident()
    features = read_shard(path, key="k", verify=False).features
    assert features.nbytes > 80e6
    assert resident() - before < 20e6


def test_a_shard_survives_json() -> None:
    shard = Shard("f", 0, 2, 1, 99, "abc", (Rejected("k", "p", "r", "d"),))
    values = {
        "file": "f",
        "first": 0,
        "stop": 2,
        "rows": 1,
        "bytes": 99,
        "sha256": "abc",
        "bad": [["k", "p", "r", "d"]],
    }
    assert Shard.from_dict(values) == shard
