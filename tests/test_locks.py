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

with alone_in(Path(sys.argv[1]), Path(sys.argv[2]), "taken"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_another_process_is_told_and_a_killed_one_holds_nothing(tmp_path):
    folder, cache = tmp_path / "run", tmp_path / "cache"
    command = [sys.executable, "-c", HOLDS, str(folder), str(cache)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(UserError, match=r"^wait for it$"), alone_in(folder, cache, "wait for it"):
            pass
        with alone_in(tmp_path / "other", cache, "wait for it"):
            pass
        holder.kill()
    with alone_in(folder, cache, "wait for it"):
        assert not folder.exists()


def test_a_failure_lets_go(tmp_path):
    for _ in range(2):
        with pytest.raises(KeyError), alone_in(tmp_path / "run", tmp_path, "taken"):
            raise KeyError("inside")
    same = tmp_path / "run" / ".." / "run"
    with alone_in(tmp_path / "run", tmp_path, "taken"), pytest.raises(UserError), alone_in(same, tmp_path, "taken"):
        pass
