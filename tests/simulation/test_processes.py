"""Workers as processes: what they answer, and what is told when one of them ends."""

import os
import signal
import time
from pathlib import Path

import pytest

from fedcmp.config import parse_recipe
from fedcmp.errors import WorkerDied
from fedcmp.simulation.pool import Pool
from fedcmp.simulation.processes import WorkerProcesses, can_split
from fedcmp.simulation.worker import WORKER_RECIPE
from fedcmp.wire.frames import read_frame, write_frame

pytestmark = pytest.mark.skipif(not can_split(), reason="processes are not split here")
RECIPE = parse_recipe({"data": {"num_pairs": 100}, "run": {"workers": 2}}, "test")


def children(process):
    """Process ids of those that were split from a process."""
    return [int(number) for number in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def settled(condition, seconds=60):
    """Whether a condition comes true in time."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


def alive(number):
    """Whether a process is there and has not ended."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def processes(tmp_path):
    """Two workers that are there."""
    with WorkerProcesses(2, tmp_path, split=True) as processes:
        assert settled(lambda: len(children(processes.all[0].process)) == 2)
        yield processes


def test_workers_answer_their_own_jobs_and_one_that_ends_leaves_its_exit_code(processes):
    """Without anything prepared, an answer is what is missing."""
    assert processes.all[0].process is processes.all[1].process
    for worker in processes.all * 2:
        write_frame(worker.jobs, {"op": "train"}, {})
        assert WORKER_RECIPE in read_frame(worker.results)[0]["user_error"]
    first, second = processes.all
    killed, other = children(first.process)
    os.kill(killed, signal.SIGKILL)
    assert read_frame(first.results)[0] == {"exit_code": -signal.SIGKILL}
    assert first.exit_code() is None  # the process that it was split from is there for the other one
    write_frame(second.jobs, {"op": "train"}, {})
    assert "user_error" in read_frame(second.results)[0]
    processes.end()
    assert settled(lambda: not alive(other))


def test_the_process_that_is_split_has_no_thread_that_could_hold_a_lock(processes):
    """What another thread has locked in that moment is locked in the worker for ever; pyarrow's jemalloc unlocks it."""
    threads = Path(f"/proc/{processes.all[0].process.pid}/task").iterdir()
    names = [(thread / "comm").read_text().strip() for thread in threads]
    assert len([name for name in names if name != "jemalloc_bg_thd"]) == 1, names


def test_a_run_whose_workers_end_says_so(processes, tmp_path):
    with Pool(RECIPE, tmp_path, processes=processes) as pool:
        for worker in children(processes.all[0].process):
            os.kill(worker, signal.SIGKILL)
        with pytest.raises(WorkerDied, match="exit code -9"):
            list(pool.map([({"op": "train"}, {})]))


def test_workers_end_with_the_process_that_they_were_split_from(processes, tmp_path):
    workers = children(processes.all[0].process)
    processes.all[0].process.kill()
    processes.end()
    assert settled(lambda: not any(alive(worker) for worker in workers))


def test_where_processes_cannot_be_split_each_worker_is_one(tmp_path):
    with WorkerProcesses(2, tmp_path, split=False) as processes:
        one, two = processes.all
        assert one.process is not two.process
        one.process.kill()
        with pytest.raises(EOFError):
            read_frame(one.results)
        assert one.exit_code() == -signal.SIGKILL


def test_one_worker_needs_no_process(tmp_path):
    assert WorkerProcesses(1, tmp_path).all == []
