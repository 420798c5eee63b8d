"""Workers as processes: what they answer, and what is reported when one of them ends."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from fedcmp.config import parse_recipe
from fedcmp.errors import WorkerDied
from fedcmp.simulation.pool import Pool
from fedcmp.simulation.processes import WORKER_RECIPE, start_workers
from fedcmp.wire.frames import read_frame, write_frame
from fedcmp.workers.processes import WorkerProcesses, can_split
from tests.workers.helpers import alive, children, settled, threads

pytestmark = pytest.mark.skipif(not can_split(), reason="processes are not split here")
RECIPE = parse_recipe({"data": {"num_pairs": 100}, "run": {"workers": 2}}, "test")
ECHO = "tests.workers.handlers:echo"
HANDLERS = [
    "fedcmp.simulation.handler:serve_engine",
    "fedcmp.study.handler:serve_tasks",
    "fedcmp.scenarios.embeddings.handler:serve_batches",
]


@pytest.fixture
def processes(tmp_path):
    """Two workers of a run that are there."""
    with start_workers(2, tmp_path, split=True) as processes:
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


@pytest.mark.parametrize("handler", HANDLERS)
def test_the_process_that_is_split_has_no_thread_that_could_hold_a_lock(handler):
    """What another thread has locked in that moment is locked in the worker for ever."""
    with WorkerProcesses(2, handler, ["unused"], split=True) as processes:
        process = processes.all[0].process
        assert settled(lambda: len(children(process)) == 2)
        assert len(threads(process)) == 1, threads(process)


def test_a_run_whose_workers_end_says_so(processes, tmp_path):
    with Pool(RECIPE, tmp_path, processes=processes) as pool:
        for worker in children(processes.all[0].process):
            os.kill(worker, signal.SIGKILL)
        for _ in range(3):  # also who comes later
            with pytest.raises(WorkerDied, match=r"exit code -9.*resumed with --resume$"):
                list(pool.map([({"op": "train"}, {})]))


def test_workers_end_with_the_process_that_they_were_split_from(processes):
    workers = children(processes.all[0].process)
    processes.all[0].process.kill()
    processes.end()
    assert settled(lambda: not any(alive(worker) for worker in workers))


def test_where_processes_cannot_be_split_each_worker_is_one(tmp_path):
    with start_workers(2, tmp_path, split=False) as processes:
        one, two = processes.all
        assert one.process is not two.process
        one.process.kill()
        with pytest.raises(EOFError):
            read_frame(one.results)
        assert one.exit_code() == -signal.SIGKILL


def test_one_worker_of_a_run_needs_no_process(tmp_path):
    assert start_workers(1, tmp_path).all == []
    assert start_workers(0, tmp_path).all == []


def test_variables_reach_the_workers_and_each_computes_in_one_thread():
    with WorkerProcesses(1, ECHO, variables={"OF_THE_TEST": "yes"}) as processes:
        environment = Path(f"/proc/{processes.all[0].process.pid}/environ").read_text().split("\0")
        assert {"OF_THE_TEST=yes", "OMP_NUM_THREADS=1"} <= set(environment)


@pytest.mark.parametrize("split", [True, False])
@pytest.mark.parametrize("busy", ["no", "seconds", "holding"])
def test_workers_end_within_a_second_when_their_parent_is_killed(split, busy):
    """Also in the middle of a job, and where a library's code holds Python's lock: nobody waits for it any more."""
    program = f"""
        from fedcmp.wire.frames import read_frame, write_frame
        from fedcmp.workers.processes import WorkerProcesses
        processes = WorkerProcesses(2, {ECHO!r}, split={split})
        for worker in processes.all:
            write_frame(worker.jobs, {{}}, {{}})
            print(worker.process.pid, read_frame(worker.results)[0]["result"]["process"], flush=True)
            if {busy!r} != "no":
                write_frame(worker.jobs, {{{busy!r}: 1000}}, {{}})
        input()
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        numbers = {int(number) for _ in range(2) for number in parent.stdout.readline().split()}
        assert len(numbers) == (3 if split else 2)
        assert all(map(alive, numbers))
        parent.kill()
        assert settled(lambda: not any(map(alive, numbers)), seconds=1)
