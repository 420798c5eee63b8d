import sys
import textwrap

import pytest

from fedcmp.errors import WorkerDied
from fedcmp.study import workers as module
from fedcmp.study.workers import Workers

# stands for the real worker: answers each task with its number, slowly where it says so, and dies of "die"
ECHO = """
import os, sys, time
from fedcmp.wire.frames import read_frame, write_frame
out = os.fdopen(os.dup(1), "wb")
while True:
    task, _ = read_frame(sys.stdin.buffer)
    if task["op"] == "die":
        os._exit(3)
    time.sleep(task.get("seconds", 0))
    write_frame(out, {"record": {"number": task["number"]}}, {})
"""


@pytest.fixture
def echo(monkeypatch):
    real = module.subprocess.Popen

    def started(command, **options):
        return real([sys.executable, "-c", textwrap.dedent(ECHO)], **options)

    monkeypatch.setattr(module.subprocess, "Popen", started)


def tasks(count, **first):
    return [{"op": "run", "number": number} | (first if number == 0 else {}) for number in range(count)]


@pytest.mark.usefixtures("echo")
def test_every_task_is_done_once_and_a_slow_one_holds_nobody_up():
    with Workers(2) as workers:
        ended = [done.record["number"] for done in workers.run(tasks(9, seconds=0.6))]
    assert sorted(ended) == list(range(9))
    assert ended[-1] == 0


@pytest.mark.usefixtures("echo")
def test_after_a_no_those_under_way_are_waited_for():
    with Workers(2) as workers:
        assert len(list(workers.run(tasks(9), may_start=lambda: False))) == 2


@pytest.mark.usefixtures("echo")
def test_fewer_tasks_than_workers():
    with Workers(3) as workers:
        assert [done.record["number"] for done in workers.run(tasks(1))] == [0]


@pytest.mark.usefixtures("echo")
def test_a_worker_that_dies_is_told():
    with Workers(1) as workers, pytest.raises(WorkerDied, match="exit code 3"):
        list(workers.run([{"op": "die"}]))
