"""Folders that one process fills at a time, and work that several share out."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from fedcmp import locks
from fedcmp.errors import UserError
from fedcmp.locks import STALE, Claims, alone_in

HOLDS = """
import sys
from pathlib import Path
from fedcmp.locks import alone_in

with alone_in(Path(sys.argv[1]), "taken"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_another_process_is_told_and_a_killed_one_holds_nothing(tmp_path):
    folder = tmp_path / "runs" / "run"
    command = [sys.executable, "-c", HOLDS, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(UserError, match=r"^wait for it$"), alone_in(folder, "wait for it"):
            pass
        with alone_in(tmp_path / "other", "wait for it"):
            pass
        holder.kill()
    with alone_in(folder, "wait for it"):
        assert not folder.exists()


def test_a_failure_lets_go(tmp_path):
    for _ in range(2):
        with pytest.raises(KeyError), alone_in(tmp_path / "run", "taken"):
            raise KeyError("inside")
    same = tmp_path / "run" / ".." / "run"
    with alone_in(tmp_path / "run", "taken"), pytest.raises(UserError), alone_in(same, "taken"):
        pass


def test_nothing_is_left_of_a_lock(tmp_path):
    with alone_in(tmp_path / "new" / "runs" / "run", "taken"):
        assert (tmp_path / "new" / "runs" / ".run.lock").exists()
    assert not (tmp_path / "new").exists()
    with alone_in(tmp_path / "runs" / "run", "taken"):
        (tmp_path / "runs" / "run").mkdir()
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["run"]


def test_a_place_that_cannot_be_locked_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"\.run\.lock: cannot be locked"), alone_in(tmp_path / "file" / "run", "taken"):
        pass


TAKES = """
import sys
from pathlib import Path
from fedcmp.locks import Claims

with Claims(Path(sys.argv[1])) as claims:
    print([name for name in sys.argv[2:] if claims.take(name)], flush=True)
    sys.stdin.read()
"""


def taking(folder, *names):
    command = [sys.executable, "-c", TAKES, str(folder), *names]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_a_claim_names_its_holder_and_a_killed_process_loses_it_at_once(tmp_path):
    folder = tmp_path / "claims"
    with taking(folder, "runs/a", "runs/b") as other, Claims(folder) as claims:
        assert other.stdout.readline() == "['runs/a', 'runs/b']\n"
        assert [claims.take(name) for name in ("runs/a", "runs/b", "runs/c")] == [False, False, True]
        assert claims.holder("runs/a") == f"{socket.gethostname()}, process {other.pid}"
        assert claims.holder("runs/d") == ""
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
        assert claims.take("runs/a")
        assert claims.holder("runs/a") == f"{socket.gethostname()}, process {os.getpid()}"
        assert not claims.take("runs/a")  # this process has it already
        assert (folder / "runs+b.claim").exists()  # the killed one's, which holds nobody up
    assert not folder.exists()


def test_a_claim_that_is_given_back_can_be_taken(tmp_path):
    with Claims(tmp_path / "claims") as one, Claims(tmp_path / "claims") as other:
        assert one.take("run")
        assert not other.take("run")
        one.release("run")
        with other.turn("run"):
            assert not one.take("run")
        assert one.take("run")


def test_many_threads_never_hold_the_same_claim(tmp_path):
    """Each waits for its turn, and would find a second holder inside."""
    inside, most = [], []

    def work():
        with Claims(tmp_path / "claims") as claims:
            for _ in range(20):
                with claims.turn("run"):
                    inside.append(1)
                    most.append(len(inside))
                    inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 80


def test_where_locks_end_at_the_machine_beats_keep_a_claim(tmp_path, monkeypatch):
    """A claim of another machine whose lock cannot be seen here: its file was touched lately, or was not."""
    path = tmp_path / "run.claim"
    path.write_text(json.dumps({"host": "elsewhere", "process": 7}))
    with Claims(tmp_path) as claims:
        assert not claims.take("run")
        assert claims.holder("run") == "elsewhere, process 7"
        long_ago = time.time() - 2 * STALE
        os.utime(path, (long_ago, long_ago))
        assert claims.take("run")
    monkeypatch.setattr(locks, "BEAT", 0.01)
    with Claims(tmp_path) as claims:
        assert claims.take("run")
        os.utime(path, (long_ago, long_ago))
        until = time.monotonic() + 30
        while path.stat().st_mtime < long_ago + STALE and time.monotonic() < until:
            time.sleep(0.01)
        assert path.stat().st_mtime > long_ago + STALE


def test_a_claim_that_was_cut_off_or_cannot_be_made(tmp_path):
    (tmp_path / "claims").mkdir()
    (tmp_path / "claims" / "run.claim").write_text('{"host')
    with Claims(tmp_path / "claims") as claims:
        assert claims.take("run")
    (tmp_path / "file").touch()
    claims = Claims(tmp_path / "file" / "claims")
    with pytest.raises(UserError, match=r"run\.claim: cannot be locked"):
        claims.take("run")
