"""The group's own operations, between real processes over gloo, and what a failed rank means to the others."""

import faulthandler
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
import torch

from fedcmp import distributed
from fedcmp.distributed import ALONE, Group, joined, launched
from fedcmp.errors import UserError, WorkerDied, WorkerFailed


@contextmanager
def launcher_store(context: multiprocessing.context.ForkContext) -> Iterator[int]:
    """The port of a store such as torchrun keeps, in a process of its own.

    Its server is a thread, which looks up names for every rank that connects. A rank that this process split off in
    that very moment would find the resolver locked for ever.
    """

    def serve() -> None:
        store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        told.send(store.port)
        time.sleep(600)

    port, told = context.Pipe(duplex=False)
    process = context.Process(target=serve, daemon=True)
    process.start()
    told.close()
    try:
        yield port.recv()
    finally:
        process.kill()
        process.join()


def in_processes(size: int, work: Callable[[Group], object]) -> dict[int, object]:
    """What `work` returns, or the exception that it raises, by rank; a rank that dies is not in there."""
    context = multiprocessing.get_context("fork")  # the test's torch is loaded already
    answers = context.SimpleQueue()

    def one(rank: int) -> None:
        own = {"RANK": rank, "WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        own |= {"TORCHELASTIC_USE_AGENT_STORE": True}
        os.environ.update({name: str(value) for name, value in own.items()})
        faulthandler.dump_traceback_later(50, file=(folder / str(rank)).open("w"))
        try:
            with joined() as group:
                result = work(group)
        except Exception as error:
            result = error
        answers.put((rank, result))
        os._exit(0)

    with tempfile.TemporaryDirectory() as name, launcher_store(context) as port:
        folder = Path(name)
        processes = [context.Process(target=one, args=(rank,)) for rank in range(size)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(60)
        hanging = [rank for rank, process in enumerate(processes) if process.exitcode is None]
        for rank in hanging:
            processes[rank].kill()
        assert not hanging, "\n".join(f"rank {rank} hangs: {(folder / str(rank)).read_text()}" for rank in hanging)
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


def test_no_rank_begins_before_all_have_connected(monkeypatch):
    """One that began, failed and left at once would leave the slowest to connect to nobody."""
    new_group, connected = torch.distributed.new_group, {}

    def slow(**options):
        group = new_group(**options)
        time.sleep(0.5 * int(os.environ["RANK"]))
        connected["at"] = time.monotonic()
        return group

    monkeypatch.setattr(torch.distributed, "new_group", slow)
    found = in_processes(3, lambda group: (connected["at"], time.monotonic()))
    assert min(begun for _, begun in found.values()) > max(at for at, _ in found.values())


@pytest.mark.parametrize(
    ("failing", "wait"),
    [
        (0, lambda group: group.tell(None)),
        (1, lambda group: group.sums([torch.ones(2)])),
        (2, lambda group: group.gather("value")),
    ],
    ids=["tell", "sums", "gather"],
)
@pytest.mark.parametrize("error", [UserError("pairs.json: is bad"), KeyError("shard")])
def test_a_failed_ranks_reason_reaches_all_who_wait_for_it(failing, wait, error):
    def work(group):
        if group.rank == failing:
            raise error
        return wait(group)

    user = isinstance(error, UserError)
    kind, text = (UserError, "pairs.json: is bad") if user else (WorkerFailed, f"rank {failing} of 3 failed")
    found = in_processes(3, work)
    assert type(found.pop(failing)) is type(error)
    assert len(found) == 2
    for rank in found:
        assert type(found[rank]) is kind
        assert text in str(found[rank])


def test_a_rank_that_dies_without_a_word_is_noticed_at_once(monkeypatch):
    monkeypatch.setattr(distributed, "_REASON_SECONDS", 0.2)

    def work(group):
        if group.rank == 1:
            os._exit(9)
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
def test_one_rank_tells_people_also_where_the_first_has_died(monkeypatch, dead):
    monkeypatch.setattr(distributed, "_REASON_SECONDS", 0.2)
    monkeypatch.setattr(distributed, "_VOICE_SECONDS", 1.0)

    def work(group):
        if group.rank == dead:
            os._exit(9)
        try:
            group.sums([torch.ones(2)])
        except WorkerDied:
            return group.speaks()

    found = in_processes(3, work)
    assert len(found) == 2
    assert sum(bool(speaks) for speaks in found.values()) == 1
