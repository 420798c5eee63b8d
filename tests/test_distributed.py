"""The group's own operations, between real processes over gloo, and what a failed rank means to the others."""

import multiprocessing
import os
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import torch

from fedcmp import distributed
from fedcmp.distributed import ALONE, Group, joined, launched
from fedcmp.errors import UserError, WorkerDied, WorkerFailed


def in_processes(size: int, work: Callable[[Group], object]) -> dict[int, object]:
    """What `work` returns, or the exception that it raises, by rank; a rank that dies is not in there."""
    context = multiprocessing.get_context("fork")  # the test's torch is loaded already
    answers = context.SimpleQueue()
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # torchrun keeps one too

    def one(rank: int) -> None:
        own = {"RANK": rank, "WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": store.port}
        own |= {"TORCHELASTIC_USE_AGENT_STORE": True}
        os.environ.update({name: str(value) for name, value in own.items()})
        try:
            with joined() as group:
                result = work(group)
        except Exception as error:
            result = error
        answers.put((rank, result))
        os._exit(0)

    processes = [context.Process(target=one, args=(rank,)) for rank in range(size)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode is not None, "a rank hangs"
    found = {}
    while not answers.empty():
        rank, result = answers.get()
        found[rank] = result
    return found


def test_one_process_needs_nobody():
    tensors = [torch.ones(2), torch.ones(3)]
    assert all(a is b for a, b in zip(ALONE.sums(tensors), tensors, strict=True))
    assert ALONE.gather({"a": 1}) == [{"a": 1}]
    assert ALONE.tell(b"job") == b"job"
    assert list(ALONE.share(3)) == [0, 1, 2]
    assert ALONE.reason() is None


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, (0, 1)),
        ({"RANK": "1", "WORLD_SIZE": "4"}, (0, 1)),  # no address: not a launcher's
        ({"RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "9"}, (1, 4)),
    ],
)
def test_a_launcher_is_known_by_its_variables(monkeypatch, variables, expected):
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert launched() == expected


@pytest.mark.parametrize("size", [2, 3])
def test_sums_gathers_and_tells(size):
    def work(group):
        generator = torch.Generator().manual_seed(group.rank)
        tensors = [torch.randn(3, 2, generator=generator), torch.tensor([group.rank, 1]), torch.zeros(0)]
        tensors.append(torch.randn(5, dtype=torch.float64, generator=generator))
        tensors.append(torch.ones(1).expand(4))  # as gradients of a bias are: one number seen four times
        sums = group.sums(tensors)
        gathered = group.gather({"rank": group.rank, "text": "ü" * group.rank * 50})
        told = group.tell(b"a job" * 3 if group.rank == 0 else None)
        empty = group.tell(b"" if group.rank == 0 else None)
        return [t.tolist() for t in tensors], [t.tolist() for t in sums], gathered, told, empty

    found = in_processes(size, work)
    assert len(found) == size
    brought = [found[rank][0] for rank in range(size)]
    for rank in range(size):
        _, sums, gathered, told, empty = found[rank]
        assert sums == found[0][1]  # the same bits everywhere
        for place, summed in enumerate(sums):
            expected = sum(torch.tensor(own[place], dtype=torch.float64) for own in brought)
            torch.testing.assert_close(torch.tensor(summed, dtype=torch.float64), expected, rtol=1e-6, atol=1e-6)
        assert gathered == [{"rank": r, "text": "ü" * r * 50} for r in range(size)]
        assert (told, empty) == (b"a joba joba job", b"")


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (UserError("pairs.json: is bad"), UserError, "pairs.json: is bad"),
        (KeyError("shard"), WorkerFailed, "rank 1 of 3 failed"),
    ],
)
def test_a_failed_ranks_reason_reaches_all_who_wait_for_it(error, kind, text):
    def work(group):
        if group.rank == 1:
            raise error
        return group.sums([torch.ones(2)]) if group.rank == 0 else group.tell(None)

    found = in_processes(3, work)
    assert type(found[1]) is type(error)
    for rank in (0, 2):
        assert type(found[rank]) is kind
        assert text in str(found[rank])


def dies(group: Group, rank: int, folder: Path) -> None:
    """Let one rank die when all have joined: before that, the others would wait for it to connect, as they should."""
    (folder / str(group.rank)).touch()
    if group.rank == rank:
        while len(list(folder.iterdir())) < group.size:
            time.sleep(0.01)
        os._exit(9)


def test_a_rank_that_dies_without_a_word_is_noticed_at_once(monkeypatch, tmp_path):
    monkeypatch.setattr(distributed, "_REASON_SECONDS", 0.2)

    def work(group):
        dies(group, 1, tmp_path)
        begun = time.monotonic()
        try:
            group.sums([torch.ones(2)])
        except WorkerDied as error:
            return str(error), time.monotonic() - begun

    found = in_processes(2, work)
    said, seconds = found[0]
    assert set(found) == {0}
    assert "rank 0 of 2 lost the others" in said
    assert "--resume" in said
    assert seconds < 3


def test_a_rank_that_hangs_is_waited_for_no_longer_than_a_step_may_take(monkeypatch):
    monkeypatch.setattr(distributed, "STEP_TIMEOUT", timedelta(seconds=1))
    monkeypatch.setattr(distributed, "_REASON_SECONDS", 0.2)

    def work(group):
        if group.rank == 1:
            time.sleep(4)
            os._exit(0)
        begun = time.monotonic()
        try:
            group.sums([torch.ones(2)])
        except WorkerDied:
            return time.monotonic() - begun

    assert 0.9 < in_processes(2, work)[0] < 3.5


@pytest.mark.parametrize("dead", [0, 2])
def test_one_rank_tells_people_also_where_the_first_has_died(monkeypatch, tmp_path, dead):
    monkeypatch.setattr(distributed, "_REASON_SECONDS", 0.2)
    monkeypatch.setattr(distributed, "_VOICE_SECONDS", 1.0)

    def work(group):
        dies(group, dead, tmp_path)
        try:
            group.sums([torch.ones(2)])
        except WorkerDied:
            return group.speaks()

    found = in_processes(3, work)
    assert len(found) == 2
    assert sum(bool(speaks) for speaks in found.values()) == 1
