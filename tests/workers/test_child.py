"""The loop of a worker, spoken to in frames."""

import errno
import os
import subprocess
import sys

import pytest
import torch

from fedcmp.wire.frames import read_frame, write_frame
from fedcmp.workers.child import _problem
from fedcmp.workers.processes import WorkerProcesses

ECHO = "tests.workers.handlers:echo"


def asked(worker, header, tensors=None):
    write_frame(worker.jobs, header, tensors or {})
    return read_frame(worker.results)


@pytest.fixture
def worker():
    with WorkerProcesses(1, ECHO, ["one", "two words"]) as processes:
        yield processes.all[0]


def test_a_job_is_answered_by_the_handler_that_the_arguments_make(worker):
    """Whatever is printed, for standard output is not the protocol's."""
    header, tensors = asked(worker, {"number": 3}, {"a": torch.arange(4)})
    assert header["result"]["number"] == 3
    assert header["result"]["arguments"] == ["one", "two words"]
    assert tensors["a"].tolist() == [0, 1, 2, 3]


def test_a_failed_job_is_an_answer_and_the_next_one_is_done(worker):
    assert asked(worker, {"mistake": "fix this"}) == ({"user_error": "fix this"}, {})
    header, _ = asked(worker, {"bug": "in the handler"})
    assert header["error"].startswith("Traceback")
    assert header["error"].endswith("KeyError: 'in the handler'\n")
    assert asked(worker, {"number": 1})[0]["result"]["number"] == 1


def test_a_factory_that_fails_answers_every_job():
    with WorkerProcesses(1, ECHO, ["unusable"]) as processes:
        for _ in range(2):
            assert asked(processes.all[0], {}) == ({"user_error": "the factory found a mistake"}, {})


def test_a_handler_may_begin_the_jobs_at_hand_before_it_finishes_the_first():
    with WorkerProcesses(1, "tests.workers.handlers:together", ["3"]) as processes:
        (worker,) = processes.all
        for number in range(3):
            write_frame(worker.jobs, {"number": number}, {})
        assert [read_frame(worker.results)[0] for _ in range(3)] == [{"result": {"number": n}} for n in range(3)]


def test_answers_do_not_wait_for_a_job_that_is_being_sent(worker):
    """Neither side blocks the other, however large frames are."""
    large = {"a": torch.zeros(2**20)}
    for _ in range(3):
        write_frame(worker.jobs, {}, large)
    for _ in range(3):
        assert read_frame(worker.results)[1]["a"].shape == (2**20,)


def test_a_worker_whose_jobs_end_ends_without_a_word():
    jobs, results = os.pipe(), os.pipe()
    command = [sys.executable, "-m", "fedcmp.workers.child", "tests.workers.handlers:study", f"{jobs[0]}:{results[1]}"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "pass_fds": (jobs[0], results[1])}
    with (
        subprocess.Popen(command, **pipes) as worker,
        os.fdopen(jobs[1], "wb") as outgoing,
        os.fdopen(results[0], "rb") as incoming,
    ):
        os.close(jobs[0])
        os.close(results[1])
        write_frame(outgoing, {"number": 7}, {})
        assert read_frame(incoming)[0]["result"]["record"]["number"] == 7
        outgoing.close()
        assert worker.wait(60) == 0
        assert worker.stdout.read() == b""
        assert set(worker.stderr.read().decode().splitlines()) == {
            "a library that prints while it is loaded",
            "a library that prints",
        }


@pytest.mark.parametrize("split", [True, False])
def test_what_is_no_frame_ends_a_worker_with_an_exit_code(split, capfd):
    with WorkerProcesses(2, ECHO, split=split) as processes:
        worker = processes.all[0]
        worker.jobs.write(b"\xff" * 100)
        worker.jobs.flush()
        if split:
            assert read_frame(worker.results)[0] == {"exit_code": 1}
        else:
            with pytest.raises(EOFError):
                read_frame(worker.results)
            assert worker.exit_code() == 1
    assert "ValueError: malformed frame" in capfd.readouterr().err


@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.ENOSPC, "No space left on device", "runs/a")])
def test_what_runs_short_in_a_worker_is_one_line(error):
    header, tensors = _problem(error)
    assert list(header) == ["user_error"]
    assert header["user_error"].startswith(("not enough memory; ", "runs/a: the disk is full: "))
    assert tensors == {}
