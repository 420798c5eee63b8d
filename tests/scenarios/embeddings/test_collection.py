"""Collections are embedded once, whole, and the same whatever happens meanwhile."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from fedcmp.errors import UserError
from fedcmp.locks import Claims
from fedcmp.model.dual_encoder import DualEncoder
from fedcmp.scenarios.embeddings import collection as embedding
from fedcmp.scenarios.embeddings.collection import embed_collection
from fedcmp.scenarios.embeddings.folder import BAD_PAIRS, INDEX, EmbeddingFolder
from fedcmp.scenarios.embeddings.pair_files import find_pairs
from fedcmp.workers.processes import can_split
from tests.data.helpers import encoded, write_llava, write_tar
from tests.model.dual_encoders import clip_folder, naflex_folder, siglip2_folder
from tests.scenarios.noise_pairs import COUNT, OPTIONS, caption, files, noise_pairs, picture


@pytest.fixture
def pairs(tmp_path):
    return noise_pairs(tmp_path / "source")


def test_every_good_pair_has_the_vectors_of_its_picture_and_caption(pairs, tmp_path):
    told = []
    found = embed_collection(pairs, "world", tmp_path / "emb", **OPTIONS, progress=lambda *call: told.append(call))
    good = [number for number in range(COUNT) if number not in (4, 8, 9)]
    assert found.ids() == [f"id-{number}" for number in good]
    dual = DualEncoder("world", device="cpu")
    for part, expected in (
        ("image", dual.images([picture(number) for number in good])),
        ("text", dual.texts([caption(number) for number in good])),
    ):
        got = found.rows(part, 0, len(good))
        assert got.dtype == np.float16
        np.testing.assert_allclose(got.astype(np.float32), expected.numpy(), atol=2e-3)
    assert [(shard.first, shard.stop, shard.rows) for shard in found.shards] == [(0, 8, 7), (8, 16, 6), (16, 23, 7)]
    bad = [json.loads(line) for line in (tmp_path / "emb" / BAD_PAIRS).read_text().splitlines()]
    assert [(one["key"], one["reason"]) for one in bad] == [
        ("none", "empty caption"),
        ("id-4", "truncated"),
        ("id-8", "missing"),
        ("id 9", "too large after resizing"),
    ]
    assert told == [("embedding pairs", done, COUNT) for done in (0, 3, 6, 8, 11, 14, 16, 19, 22, 23)]


def test_the_index_says_how_to_open_the_pairs_again(pairs, tmp_path):
    found = embed_collection(pairs, "world", tmp_path / "emb", **OPTIONS)
    source = pairs.open()
    assert found.source == {
        "name": "pairs.json",
        "fingerprint": source.fingerprint(),
        "format": "llava",
        "pairs": [str(tmp_path / "source" / "pairs.json")],
        "images": None,
        "unused": {},
        "ignored": {},
    }
    assert found.model == {
        "name": "world",
        "fingerprint": DualEncoder("world", device="cpu").fingerprint(),
        "dtype": "float32",
    }


def test_the_same_pairs_in_other_formats_have_the_same_vectors(tmp_path):
    contents = [encoded(picture(number)) for number in range(6)]
    (tmp_path / "pictures").mkdir()
    for number, content in enumerate(contents):
        (tmp_path / "pictures" / f"{number}.png").write_bytes(content)
    records = [{"id": f"{n}", "image": f"{n}.png", "caption": caption(n)} for n in range(6)]
    samples = [{"__key__": f"{n}", "png": contents[n], "txt": caption(n).encode()} for n in range(6)]
    table = pa.table({"jpg": contents, "caption": [caption(n) for n in range(6)], "key": [f"{n}" for n in range(6)]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=4)
    sources = [
        find_pairs([write_llava(tmp_path, records)], images=tmp_path / "pictures"),
        find_pairs([write_tar(tmp_path / "a.tar", samples)]),
        find_pairs([tmp_path / "a.parquet"]),
    ]
    folders = [embed_collection(one, "world", tmp_path / one.format, **OPTIONS) for one in sources]
    for part in ("image", "text"):
        rows = [folder.rows(part, 0, 6).tobytes() for folder in folders]
        assert rows[0] == rows[1] == rows[2]
    assert [folder.ids()[2] for folder in folders] == ["2", "a/2", "2"]
    assert len({folder.source["fingerprint"] for folder in folders}) == 3


@pytest.mark.parametrize("make", [clip_folder, siglip2_folder, naflex_folder])
def test_any_dual_encoder_serves(pairs, tmp_path, make):
    (tmp_path / "model").mkdir()
    folder = str(make(tmp_path / "model"))
    found = embed_collection(pairs, folder, tmp_path / "emb", **OPTIONS, dtype="bfloat16")
    dual = DualEncoder(folder, device="cpu", dtype="bfloat16")
    assert found.model == {"name": folder, "fingerprint": dual.fingerprint(), "dtype": "bfloat16"}
    expected = dual.images([picture(0)]).numpy(), dual.texts([caption(0)]).numpy()
    for part, vector in zip(("image", "text"), expected, strict=True):
        np.testing.assert_allclose(found.rows(part, 0, 1), vector, atol=0.02)


def test_pictures_that_are_read_ahead_in_threads_change_nothing(pairs, tmp_path, monkeypatch):
    embed_collection(pairs, "world", tmp_path / "one", **OPTIONS)
    real = embedding.Embedder

    def threaded(encoder, *, max_pixels, threads):
        assert threads == 1
        return real(encoder, max_pixels=max_pixels, threads=4)

    monkeypatch.setattr(embedding, "Embedder", threaded)
    embed_collection(pairs, "world", tmp_path / "four", **OPTIONS)
    assert files(tmp_path / "one") == files(tmp_path / "four")


class Killed(Exception):  # noqa: N818 - says what happens
    """Stands for a kill."""


def stopping_at(done):
    def progress(what, now, _total):
        if what == "embedding pairs" and now >= done:
            raise Killed

    return progress


@pytest.mark.parametrize("at", [0, 8, 11, 22])
def test_what_was_whole_is_kept_and_the_end_is_the_same(pairs, tmp_path, at, monkeypatch):
    embed_collection(pairs, "world", tmp_path / "straight", **OPTIONS)
    with pytest.raises(Killed):
        embed_collection(pairs, "world", tmp_path / "emb", **OPTIONS, progress=stopping_at(at))
    with pytest.raises(UserError, match=r"embeddings\.json: not there"):
        EmbeddingFolder(tmp_path / "emb")
    whole = {path: path.stat().st_mtime_ns for path in (tmp_path / "emb").glob("*.safetensors")}
    assert len(whole) == at // 8
    (tmp_path / "emb" / "shard-00002.safetensors.99.tmp").write_bytes(b"half")
    reads = []
    source = type(pairs.open())
    real = source.read_image
    monkeypatch.setattr(source, "read_image", lambda self, index: reads.append(index) or real(self, index))
    told = []
    without = {key: value for key, value in OPTIONS.items() if key != "shard_size"}  # as the folder was begun
    embed_collection(pairs, "world", tmp_path / "emb", **without, progress=lambda *call: told.append(call))
    assert sorted(reads) == list(range(8 * len(whole), COUNT))
    assert all(path.stat().st_mtime_ns == time for path, time in whole.items())
    assert files(tmp_path / "emb") == files(tmp_path / "straight")
    checks = [("checking shards", number + 1, 3) for number in range(len(whole))]
    assert told[: len(checks) + 1] == [*checks, ("embedding pairs", 8 * len(whole), COUNT)]


def test_a_damaged_shard_is_made_anew(pairs, tmp_path):
    embed_collection(pairs, "world", tmp_path / "emb", **OPTIONS)
    before = files(tmp_path / "emb")
    path = tmp_path / "emb" / "shard-00001.safetensors"
    path.write_bytes(before[path.name][:-3] + b"xyz")
    (tmp_path / "emb" / "shard-00002.safetensors").unlink()
    embed_collection(pairs, "world", tmp_path / "emb", **OPTIONS)
    assert files(tmp_path / "emb") == before


def test_too_many_bad_pairs_stop_it_and_are_named(pairs, tmp_path):
    options = OPTIONS | {"max_bad_fraction": 0.1}
    with pytest.raises(
        UserError, match=r"pairs\.json: at least 3 of 24 pairs are bad.*raise --max-bad-fraction"
    ) as caught:
        embed_collection(pairs, "world", tmp_path / "emb", **options)
    assert "\n" not in str(caught.value)
    assert len((tmp_path / "emb" / BAD_PAIRS).read_text().splitlines()) == 3
    assert len(embed_collection(pairs, "world", tmp_path / "emb", **OPTIONS)) == COUNT - 3


def test_a_collection_without_a_good_pair_is_refused(tmp_path):
    pairs = find_pairs([write_llava(tmp_path, [{"image": "none.png", "caption": "a photo"}] * 3)])
    options = OPTIONS | {"max_bad_fraction": 1, "shard_size": 2}
    with pytest.raises(UserError, match=r"pairs\.json: none of its 3 pairs can be embedded: 3 missing"):
        embed_collection(pairs, "world", tmp_path / "emb", **options)
    assert not (tmp_path / "emb" / INDEX).exists()


def test_a_shard_of_bad_pairs_only_is_empty(tmp_path):
    (tmp_path / "good.png").write_bytes(encoded(picture(0)))
    names = ["none.png"] * 4 + ["good.png"]
    pairs = find_pairs([write_llava(tmp_path, [{"image": name, "caption": "a photo"} for name in names])])
    options = OPTIONS | {"max_bad_fraction": 1, "shard_size": 2}
    found = embed_collection(pairs, "world", tmp_path / "emb", **options)
    assert [shard.rows for shard in found.shards] == [0, 0, 1]
    assert found.ids() == ["good.png"]
    assert found.rows("text", 0, 1).shape == (1, 64)


def test_a_vector_that_is_not_finite_is_a_bad_pair(pairs, tmp_path, monkeypatch):
    real = DualEncoder.texts

    def broken(self, captions):
        vectors = real(self, captions)
        return torch.where(torch.tensor(["circle" in one for one in captions])[:, None], torch.nan, vectors)

    monkeypatch.setattr(DualEncoder, "texts", broken)
    found = embed_collection(pairs, "world", tmp_path / "emb", **OPTIONS | {"max_bad_fraction": 1})
    lost = [json.loads(line) for line in (tmp_path / "emb" / BAD_PAIRS).read_text().splitlines()]
    named = [one["key"] for one in lost if one["reason"] == "not finite"]
    assert named
    assert not set(named) & set(found.ids())
    with pytest.raises(UserError, match="not finite"):
        embed_collection(pairs, "world", tmp_path / "strict", **OPTIONS | {"max_bad_fraction": 0.25})


def test_there_are_as_many_workers_as_processors_if_memory_allows(monkeypatch):
    monkeypatch.setattr(embedding, "_processors", lambda: 6)
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 1000, "SC_PHYS_PAGES": 800}.get)
    weights = {size: SimpleNamespace(model=torch.nn.Linear(size, 100, bias=False)) for size in (100, 400, 4000)}
    assert [embedding._default_workers(encoder, True) for encoder in weights.values()] == [6, 2, 1]
    assert embedding._default_workers(weights[100], False) == 1


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"workers": 0}, {"shard_size": 0}])
def test_numbers_below_one_are_refused(pairs, tmp_path, wrong):
    with pytest.raises(ValueError, match="at least 1 each"):
        embed_collection(pairs, "world", tmp_path / "emb", **OPTIONS | wrong)


def test_wrong_places_and_models_are_named(pairs, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/emb: this folder cannot be made .*: choose another --out"):
        embed_collection(pairs, "world", tmp_path / "file" / "emb", **OPTIONS)
    with pytest.raises(UserError, match=r"^--model = './none': no such folder"):
        embed_collection(pairs, "./none", tmp_path / "emb", **OPTIONS)
    gone = dataclasses.replace(pairs, pairs=(tmp_path / "gone.json",))
    with pytest.raises(UserError, match=r"gone\.json: cannot be read"):
        embed_collection(gone, "world", tmp_path / "emb", **OPTIONS)


def test_two_at_a_time_share_the_shards(pairs, tmp_path, monkeypatch):
    """As threads: a claim is on a file, not on a process."""
    options = OPTIONS | {"shard_size": 2, "batch_size": 2}
    embed_collection(pairs, "world", tmp_path / "straight", **options)
    source, reads, begun = type(pairs.open()), [], threading.Barrier(2, timeout=60)
    real = source.read_image
    monkeypatch.setattr(source, "read_image", lambda self, index: reads.append(index) or real(self, index))

    def progress(what, done, _total):
        if (what, done) == ("embedding pairs", 0):
            begun.wait()

    threads = [
        threading.Thread(
            target=embed_collection, args=(pairs, "world", tmp_path / "emb"), kwargs=options | {"progress": progress}
        )
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(reads) == list(range(COUNT))  # each image once
    assert files(tmp_path / "emb") == files(tmp_path / "straight")
    assert not (tmp_path / "emb" / "claims").exists()


def test_a_shard_that_another_process_holds_is_waited_for_and_made_if_that_is_killed(pairs, tmp_path, caplog):
    embed_collection(pairs, "world", tmp_path / "straight", **OPTIONS)
    other = Claims(tmp_path / "emb" / "claims")
    assert other.take("shard-00000")
    assert other.take("shard-00001")
    made, told = "shard-00001.safetensors", []

    def progress(what, done, _total):
        told.append(done)
        if what == "embedding pairs" and done == COUNT - 16:  # this process's own shard
            (tmp_path / "emb" / made).write_bytes((tmp_path / "straight" / made).read_bytes())
            threading.Timer(0.3, lambda: [other.release(name) for name in ("shard-00000", "shard-00001")]).start()

    embed_collection(pairs, "world", tmp_path / "emb", **OPTIONS, progress=progress)
    assert "waiting for 2 shards of other processes" in caplog.text
    assert told == [0, 3, 6, 7, 10, 13, 15, COUNT]
    assert files(tmp_path / "emb") == files(tmp_path / "straight")


SHARED = """
import sys, time
from pathlib import Path
from fedcmp.scenarios.embeddings.collection import embed_collection
from fedcmp.scenarios.embeddings.pair_files import find_pairs

def progress(what, done, total):
    if done:
        print("begun", flush=True)
        time.sleep(float(sys.argv[3]))

embed_collection(
    find_pairs([Path(sys.argv[1])]), "world", Path(sys.argv[2]), workers=1, device="cpu", batch_size=1, shard_size=2,
    max_bad_fraction=0.5, progress=progress,
)
"""


def test_of_two_processes_one_is_killed_and_the_other_ends_the_collection(pairs, tmp_path):
    """The first is killed while it holds a shard of which half is embedded."""
    embed_collection(pairs, "world", tmp_path / "straight", **OPTIONS | {"batch_size": 1, "shard_size": 2})
    emb, processes = tmp_path / "emb", []
    for seconds in ("600", "0.01"):
        command = [sys.executable, "-c", SHARED, str(pairs.pairs[0]), str(emb), seconds]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, env=environment))
        assert processes[-1].stdout.readline() == b"begun\n"
    first, second = processes
    assert first.poll() is None
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    second.communicate(timeout=120)
    assert second.returncode == 0
    first.stdout.close()
    assert files(emb) == files(tmp_path / "straight")
    assert not (emb / "claims").exists()


COMMAND = """
import sys, time
from pathlib import Path
from fedcmp.scenarios.embeddings.collection import embed_collection
from fedcmp.scenarios.embeddings.pair_files import find_pairs

def progress(what, done, total):
    if list(Path(sys.argv[2]).glob("*.safetensors")):  # one worker may be done with all before the other has begun
        print("begun", flush=True)
        time.sleep(600)

embed_collection(
    find_pairs([Path(sys.argv[1])]), "world", Path(sys.argv[2]), workers=2, device="cpu", batch_size=3, shard_size=8,
    max_bad_fraction=0.5, progress=progress,
)
"""


def alive(pid):
    """Not gone, and no zombie that nobody has fetched."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def descendants(process: int) -> list[int]:
    """All processes that one has started, and those that they have."""
    children = [int(pid) for pid in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    return children + [own for child in children for own in descendants(child)]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds the workers in /proc")
def test_a_killed_command_takes_its_workers_along_and_is_gone_on_with(pairs, tmp_path):
    """SIGKILL: nothing can be cleaned up. What two workers began, one ends with the same bytes."""
    embed_collection(pairs, "world", tmp_path / "straight", **OPTIONS)
    command = subprocess.Popen(
        [sys.executable, "-c", COMMAND, str(pairs.pairs[0]), str(tmp_path / "emb")],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert command.stdout.readline() == b"begun\n"
    workers = descendants(command.pid)
    assert len(workers) == (3 if can_split() else 2)  # the process that two workers were split from, and these
    os.kill(command.pid, signal.SIGKILL)
    command.wait()
    command.stdout.close()
    until = time.monotonic() + 30
    while any(map(alive, workers)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(map(alive, workers))
    assert list((tmp_path / "emb").glob("*.safetensors"))
    assert not (tmp_path / "emb" / INDEX).exists()
    embed_collection(pairs, "world", tmp_path / "emb", **OPTIONS)
    assert files(tmp_path / "emb") == files(tmp_path / "straight")
