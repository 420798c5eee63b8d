import os
import signal
import subprocess
import sys
import time

from fedcmp.deployment.supervised import Child, Restarts, end_all
from tests.deployment.federation import ROOT, descendants, gone

SLEEPER = "tests.deployment.sleeper"


def wait_until(true, seconds=100):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def make(tmp_path, *arguments, heard=None, monkeypatch=None):
    lines = [] if heard is None else heard
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    return Child(
        "child",
        [SLEEPER, *arguments],
        log=tmp_path / "logs" / "child.log",
        heard=lines.append,
        environment={"PYTHONPATH": path},
    )


def test_a_child_is_heard_logged_and_ended_with_what_it_started(tmp_path):
    lines = []
    child = make(tmp_path, "parent", heard=lines)
    child.start()
    wait_until(lambda: len(lines) == 2)
    started = [child.pid, *descendants(child.pid)]
    assert len(started) == 2
    child.end()
    gone(started)
    assert not child.running
    assert child.pid is None
    log = (tmp_path / "logs" / "child.log").read_text().splitlines()
    assert [line.split(" ", 2)[2] for line in log][:2] == lines
    assert oct((tmp_path / "logs" / "child.log").stat().st_mode)[-2:] in ("00", "44")


def test_one_that_does_not_listen_is_killed(tmp_path):
    lines = []
    child = make(tmp_path, "deaf", heard=lines)
    child.start()
    wait_until(lambda: lines)
    before = time.monotonic()
    child.end(grace=0.3)
    assert time.monotonic() - before < 30
    assert child.ended() == -signal.SIGKILL


def test_the_exit_code_and_the_last_words_are_kept_and_orphans_are_killed(tmp_path):
    child = make(tmp_path, "orphans")
    child.start()
    wait_until(lambda: child.ended() is not None)
    assert child.ended() == 7
    orphan = int(child.last_lines[-1].split()[-1])
    gone([orphan])
    child.start()  # and again
    wait_until(lambda: child.ended() is not None)
    assert child.ended() == 7


def test_several_are_ended_side_by_side(tmp_path):
    lines = []
    children = [make(tmp_path / str(n), "deaf", heard=lines) for n in range(3)]
    for child in children:
        child.start()
    wait_until(lambda: len(lines) == 3)
    before = time.monotonic()
    end_all(children, grace=0.5)
    assert time.monotonic() - before < 30  # not three times ten seconds
    assert not any(child.running for child in children)


def test_children_end_with_a_supervisor_that_is_killed(tmp_path):
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    code = (
        "import sys, time; from pathlib import Path; from fedcmp.deployment.supervised import Child\n"
        f"child = Child('c', [{SLEEPER!r}, 'deaf'], log=Path(sys.argv[1]) / 'c.log', "
        "heard=lambda line: print(child.pid, flush=True))\n"
        "child.start(); time.sleep(60)"
    )
    supervisor = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    child = int(supervisor.stdout.readline())
    supervisor.kill()
    supervisor.wait()
    gone([child])


def test_a_log_that_is_full_becomes_the_one_before(tmp_path, monkeypatch):
    from fedcmp.deployment import supervised

    monkeypatch.setattr(supervised, "_LOG_BYTES", 200)
    child = make(tmp_path, "loud")
    child.start()
    wait_until(lambda: child.ended() is not None)
    child.end()
    logs = tmp_path / "logs"
    assert {path.name for path in logs.iterdir()} == {"child.log", "child.log.1"}
    assert all(path.stat().st_size < 400 for path in logs.iterdir())


def test_restarts_wait_longer_after_each_quick_death_and_end(monkeypatch):
    restarts = Restarts(most=4, quick=10, longest=5)
    waits = []
    for _ in range(3):
        assert restarts.died(1)
        waits.append(restarts.wait)
    assert waits == [0, 2, 4]
    assert not restarts.died(1)
    assert restarts.died(60)  # it has worked for a while
    assert restarts.wait == 0
    assert restarts.due
    endless = Restarts(most=None, longest=5)
    assert all(endless.died(0) for _ in range(100))
    assert endless.wait == 5
    assert not endless.due
