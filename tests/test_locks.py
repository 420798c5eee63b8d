"""Folders that one process fills at a time."""

import subprocess
import sys

import pytest

from fedcmp.errors import UserError
from fedcmp.locks import alone_in

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
