"""Processes that embed: a killed one is an error in one line, and what one finds wrong comes through."""

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from functools import partial

import numpy as np
import pytest

from fedcmp.data.quality import BadPair
from fedcmp.errors import UserError, WorkerDied
from fedcmp.model.dual_encoder import DualEncoder
from fedcmp.scenarios.embeddings.batches import Batch, Embedder, batch_from, frame_of_batch
from fedcmp.scenarios.embeddings.workers import EmbeddingWorkers
from fedcmp.wire.frames import read_frame, write_frame
from tests.data.helpers import encoded, picture

SETUP = {"model": "world", "dtype": "float32", "device": "cpu", "key": "--model", "max_pixels": 10**6, "threads": 1}


def missing():
    raise BadPair("missing", "a/path")


def batches(count):
    """The second picture of each cannot be read, the third cannot be decoded."""
    for number in range(count):
        good = [partial(bytes, encoded(picture(10 * number + row, (48, 48)))) for row in range(2)]
        yield Batch(
            ["a photo .", "lost", "a small red circle", "a"], [good[0], missing, partial(bytes, b"no"), good[1]]
        )


def test_vectors_do_not_depend_on_who_makes_them():
    here = Embedder(DualEncoder("world", device="cpu"), max_pixels=10**6, threads=1)
    expected = list(here.embed(batches(7)))
    with EmbeddingWorkers(2, SETUP | {"threads": 2}) as workers:
        found = dict(workers.run(batches(7)))
    assert sorted(found) == list(range(7))
    for number, vectors in enumerate(expected):
        assert vectors.image.shape == vectors.text.shape == (2, 64)
        assert found[number].image.tobytes() == vectors.image.tobytes()
        assert found[number].text.tobytes() == vectors.text.tobytes()
        told = {1: ("missing", "a/path"), 2: ("not an image", "")}
        for got in (vectors, found[number]):
            assert {place: (bad.reason, bad.detail) for place, bad in got.bad.items()} == told


def test_a_worker_that_is_done_ends_without_a_word():
    """Where the jobs end, nothing is printed."""
    jobs, results = os.pipe(), os.pipe()
    handler = "fedcmp.scenarios.embeddings.handler:serve_batches"
    command = [sys.executable, "-m", "fedcmp.workers.child", handler, json.dumps(SETUP), f"{jobs[0]}:{results[1]}"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "pass_fds": (jobs[0], results[1])}
    with subprocess.Popen(command, **pipes) as worker:
        os.close(jobs[0])
        os.close(results[1])
        with os.fdopen(jobs[1], "wb") as outgoing, os.fdopen(results[0], "rb") as incoming:
            write_frame(outgoing, *frame_of_batch(next(batches(1))))
            assert "result" in read_frame(incoming)[0]
            outgoing.close()
            assert worker.wait(60) == 0
        assert worker.stdout.read() + worker.stderr.read() == b""


def test_a_killed_worker_is_an_error_in_one_line():
    endless = itertools.chain.from_iterable(batches(1) for _ in itertools.count())
    with EmbeddingWorkers(1, SETUP) as workers:
        results = workers.run(endless)
        next(results)
        os.kill(workers.processes.all[0].process.pid, signal.SIGKILL)
        with pytest.raises(WorkerDied, match=r"exit code -9.*: give the same command again$") as caught:
            for _ in results:
                pass
    assert "\n" not in str(caught.value)


def test_what_a_worker_finds_wrong_comes_through(tmp_path):
    """Also while a batch that is larger than a pipe is on its way to it."""
    large = Batch(["a"], [partial(bytes, 2**20)])
    with (
        EmbeddingWorkers(1, SETUP | {"model": str(tmp_path)}) as workers,
        pytest.raises(UserError, match=r"^--model = .*: the folder holds no config\.json"),
    ):
        list(workers.run(itertools.repeat(large)))


def test_the_next_batches_are_read_while_the_first_is_embedded():
    """Where an embedder has threads: a batch that is begun is read before anybody asks for its vectors."""
    read = [threading.Event() for _ in range(2)]

    def reading(event):
        event.set()
        raise BadPair("missing", "")

    embedder = Embedder(DualEncoder("world", device="cpu"), max_pixels=10**6, threads=2)
    finish = [embedder.begin(Batch(["a"], [partial(reading, event)])) for event in read]
    assert all(event.wait(30) for event in read)
    assert [list(vectors().bad) for vectors in finish] == [[0], [0]]


def test_a_batch_travels_byte_for_byte():
    contents = [b"", bytes(range(256)), b"one"]
    pictures = [partial(bytes, content) for content in contents]
    back = batch_from(*frame_of_batch(Batch(list("abcd"), [*pictures[:2], missing, pictures[2]])))
    assert back.captions == list("abcd")
    assert [back.pictures[place]() for place in (0, 1, 3)] == contents
    with pytest.raises(BadPair) as caught:
        back.pictures[2]()
    assert (caught.value.reason, caught.value.detail) == ("missing", "a/path")


def test_a_source_that_fails_stops_the_run():
    def broken():
        yield from batches(1)
        raise KeyError("in the source")

    with EmbeddingWorkers(1, SETUP) as workers, pytest.raises(KeyError, match="in the source"):
        list(workers.run(broken()))


def test_a_batch_without_good_pictures_has_no_vectors():
    here = Embedder(DualEncoder("world", device="cpu"), max_pixels=10**6, threads=1)
    for batch in (Batch([], []), Batch(["a"], [missing])):
        (vectors,) = here.embed([batch])
        assert len(vectors.image) == len(vectors.text) == 0
        assert len(vectors.bad) == len(batch.captions)
    assert np.dtype(vectors.image.dtype) == np.float16
