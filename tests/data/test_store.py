"""The feature store: built, resumed, shared by processes."""

import json
import logging
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from fedcmp.data import store as module
from fedcmp.data.quality import Rejected
from fedcmp.data.store import (
    FeatureStore,
    build_feature_store,
    ensure_feature_store,
    feature_key,
    open_feature_store,
    store_folder,
)
from fedcmp.errors import UserError

from .helpers import FakeEncoder, list_source
from .stores import MISSING, built, files


def test_a_complete_store(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    store = built(tmp_path, batch_size=4, progress=lambda done, total: seen.append((done, total)))
    assert (len(store), store.num_pairs, store.patches, store.width, store.dtype) == (18, 20, 4, 3, torch.float16)
    assert store.indices.tolist() == [i for i in range(20) if i not in MISSING]
    assert [(bad.key, bad.place, bad.reason) for bad in store.bad] == [
        ("key-4", "list[4]", "missing"),
        ("key-11", "list[11]", "missing"),
    ]
    assert seen == [(done, 20) for done in (4, 5, 6, 10, 12, 16, 18, 20)]
    again = open_feature_store(tmp_path, store.key, verify=True)
    assert torch.equal(again.features(store.indices), store.features(store.indices))
    for wrong in ([20], [-1], [0, 4]):
        with pytest.raises(ValueError, match="pair"):
            store.features(wrong)
    with pytest.raises(ValueError, match="the store holds 0 to 19"):
        store.gather([0, 20])


def test_features_are_copies(tmp_path: Path) -> None:
    store = built(tmp_path)
    for indices in ([0, 1], [0, 19]):
        store.features(indices).zero_()
        assert store.features(indices).abs().sum() > 0
    assert open_feature_store(tmp_path, store.key, verify=True).features([0]).abs().sum() > 0


def test_files_are_the_same_whatever_happened_before(tmp_path: Path) -> None:
    reference = store_folder(tmp_path / "a", built(tmp_path / "a").key)
    for fail_after in (1, 7, 13, 17):
        folder = tmp_path / str(fail_after)
        broken = FakeEncoder(fail_after=fail_after)
        with pytest.raises(KeyboardInterrupt):
            build_feature_store(
                list_source(20, missing=MISSING), broken, folder, shard_size=6, batch_size=2, max_bad_fraction=0.2
            )
        target = store_folder(folder, feature_key(broken, list_source(20, missing=MISSING)))
        assert not (target / "index.json").exists()
        with pytest.raises(UserError, match="no complete feature store here"):
            open_feature_store(folder, target.name)
        whole = len(list(target.glob("shard-*.safetensors")))
        source, encoder = list_source(20, missing=MISSING), FakeEncoder()
        ensure_feature_store(source, encoder, folder, shard_size=6, batch_size=2, max_bad_fraction=0.2)
        assert min(source.reads) == 6 * whole  # nothing is read twice
        assert files(target) == files(reference)


def test_a_second_build_encodes_nothing(tmp_path: Path) -> None:
    built(tmp_path)
    source, encoder = list_source(20, missing=MISSING), FakeEncoder()
    ensure_feature_store(source, encoder, tmp_path, max_bad_fraction=0.2)
    assert (source.reads, encoder.seen) == ([], 0)
    build_feature_store(source, encoder, tmp_path, max_bad_fraction=0.2)
    assert (source.reads, encoder.seen) == ([], 1)  # the blank picture that tells the shape
    with pytest.raises(UserError, match="2 of 20 pairs are bad"):
        ensure_feature_store(source, encoder, tmp_path, max_bad_fraction=0.05)


def test_the_key_names_all_that_matters() -> None:
    source, encoder = list_source(3), FakeEncoder()
    keys = {
        feature_key(encoder, source),
        feature_key(FakeEncoder(scale=2), source),
        feature_key(encoder, list_source(4)),
        feature_key(encoder, source, "float32"),
        feature_key(encoder, source, max_pixels=5),
    }
    assert len(keys) == 5
    assert feature_key(FakeEncoder(), list_source(3)) in keys


def test_another_shard_size_replaces_all_shards(tmp_path: Path) -> None:
    key = built(tmp_path).key
    source = list_source(20, missing=MISSING)
    store = build_feature_store(source, FakeEncoder(), tmp_path, shard_size=9, max_bad_fraction=0.2)
    names = sorted(path.name for path in store_folder(tmp_path, key).glob("shard*"))
    assert names == [f"shard-{n:05d}.safetensors" for n in range(3)]
    assert source.reads == list(range(20))
    assert len(store) == 18


def test_the_default_shard_size_follows_the_features_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHARD_BYTES", 4 * 3 * 2 * 8)
    store = build_feature_store(list_source(20), FakeEncoder(), tmp_path)
    assert len(list(store_folder(tmp_path, store.key).glob("shard-*"))) == 3
    with pytest.raises(ValueError, match="shard_size = 0"):
        build_feature_store(list_source(20), FakeEncoder(), tmp_path, shard_size=0)


def test_too_many_bad_pairs_stop_the_build(tmp_path: Path) -> None:
    refused = [Rejected("r", "pairs.json[3]", "empty caption")]
    source = list_source(19, missing=(0, 18), rejected=refused)
    with pytest.raises(UserError, match=r"3 of 20 pairs are bad.* 2 missing, 1 empty caption") as caught:
        build_feature_store(source, FakeEncoder(), tmp_path, shard_size=6, max_bad_fraction=0.1)
    log = next(tmp_path.rglob("bad_pairs.jsonl"))
    assert str(log) in str(caught.value)
    assert [json.loads(line)["place"] for line in log.read_text().splitlines()] == [
        "pairs.json[3]",
        "list[0]",
        "list[18]",
    ]
    store = build_feature_store(source, FakeEncoder(), tmp_path, shard_size=6, max_bad_fraction=0.15)
    assert len(log.read_text().splitlines()) == 3
    assert len(store) == 17
    with pytest.raises(UserError, match="3 of 20"):
        ensure_feature_store(source, FakeEncoder(), tmp_path, max_bad_fraction=0.1)


def test_whole_shards_of_bad_pairs(tmp_path: Path) -> None:
    source = list_source(6, missing=(0, 1, 4))
    store = build_feature_store(source, FakeEncoder(), tmp_path, shard_size=2, max_bad_fraction=0.5)
    assert store.indices.tolist() == [2, 3, 5]
    assert store.features([5, 2]).shape == (2, 4, 3)
    with pytest.raises(UserError, match="none of its 2 pictures is usable: 2 missing"):
        build_feature_store(list_source(2, missing=(0, 1)), FakeEncoder(), tmp_path, max_bad_fraction=1)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        build_feature_store(list_source(2), FakeEncoder(), tmp_path / "file" / "cache")


def test_a_pickled_store_is_small_and_opens_anew(tmp_path: Path) -> None:
    store = built(tmp_path)
    data = pickle.dumps(store)
    assert len(data) < 1000
    # what is pickled here is our own object, as a DataLoader sends it to its worker processes
    assert torch.equal(pickle.loads(data).features([1, 19]), store.features([1, 19]))


def _sums(store: FeatureStore, answers: "multiprocessing.Queue[float]") -> None:
    answers.put(store.features(store.indices).double().sum().item())


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_several_processes_read_one_store(tmp_path: Path, method: str) -> None:
    store = built(tmp_path)
    context = multiprocessing.get_context(method)
    answers: multiprocessing.Queue[float] = context.Queue()
    workers = [context.Process(target=_sums, args=(store, answers)) for _ in range(2)]
    for worker in workers:
        worker.start()
    expected = store.features(store.indices).double().sum().item()
    assert [answers.get(timeout=600) for _ in workers] == [expected] * 2
    for worker in workers:
        worker.join()


CHILD = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from data.helpers import FakeEncoder, list_source
from fedcmp.data.store import build_feature_store

def told(done, total):
    print(done, flush=True)
    time.sleep(float(sys.argv[3]) if done < int(sys.argv[4]) else 600)

build_feature_store(list_source(20), FakeEncoder(), Path(sys.argv[2]), shard_size=4, batch_size=2, progress=told)
print("complete", flush=True)
"""


def child(folder: Path, *, pause: float, hang: int) -> subprocess.Popen[str]:
    """Build in another process, `pause` seconds a batch; it stands still once `hang` pairs are done."""
    tests = Path(__file__).parent.parent
    command = [sys.executable, "-c", CHILD, str(tests), str(folder), str(pause), str(hang)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def test_a_killed_build_is_finished_by_the_next(tmp_path: Path) -> None:
    process = child(tmp_path / "killed", pause=0, hang=14)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) == 14:  # in the middle of the fourth shard
            process.send_signal(signal.SIGKILL)
            break
    process.stdout.close()
    assert process.wait(600) == -signal.SIGKILL
    source = list_source(20)
    target = store_folder(tmp_path / "killed", feature_key(FakeEncoder(), source))
    half = target / "shard-00009.safetensors.123.tmp"
    half.write_bytes(b"half")
    store = ensure_feature_store(source, FakeEncoder(), tmp_path / "killed", shard_size=4, batch_size=2)
    assert min(source.reads) >= 12
    assert not half.exists()
    whole = build_feature_store(list_source(20), FakeEncoder(), tmp_path / "whole", shard_size=4, batch_size=2)
    assert files(target) == files(store_folder(tmp_path / "whole", whole.key))
    assert torch.equal(store.features(np.arange(20)), whole.features(np.arange(20)))


def test_two_builds_at_once_take_turns(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    process = child(tmp_path, pause=0.2, hang=99)
    assert process.stdout is not None
    process.stdout.readline()  # the lock is held now
    source = list_source(20)
    with caplog.at_level(logging.WARNING, "fedcmp.data"):
        store = ensure_feature_store(source, FakeEncoder(), tmp_path, shard_size=4, batch_size=2)
    assert "another process is building this store" in caplog.text
    assert source.reads == []
    assert len(store) == 20
    assert process.communicate(timeout=600)[0].endswith("complete\n")
    assert process.returncode == 0
