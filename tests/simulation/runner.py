"""Small runs of the real command, as a user would type it, for the end-to-end tests."""

import json
import os
import subprocess
import sys
from pathlib import Path

SMALL = """
[run]
name = "small"
methods = {methods}
workers = {workers}
seed = 3

[data]
num_pairs = 240

[scenario]
kind = "iid"
clients = 3

[federation]
rounds = 3

[training]
learning_rate = 0.01
batch_size = 8

[evaluation]
captions = 24
questions_per_kind = 2
samples = 2
sample_tokens = 6
"""

# Loaded by every child process, which it writes down: reaching for another host ends the process with exit code 97.
GUARD = """
import os, socket, sys
with open(os.environ["NETWORK_GUARD_LOG"], "a") as log:
    log.write(" ".join(sys.orig_argv[1:]) + "\\n")
def check(did, host):
    if host not in ("127.0.0.1", "::1", "localhost", None, ""):
        os.write(2, f"{did} {host}".encode())
        os._exit(97)
def guard(name):
    real = getattr(socket.socket, name)
    def guarded(self, *arguments):
        address = arguments[-1]
        if isinstance(address, tuple):  # otherwise a file's name
            check("reached for", address[0])
        return real(self, *arguments)
    setattr(socket.socket, name, guarded)
for name in ("connect", "connect_ex", "sendto"):
    guard(name)
lookup = socket.getaddrinfo
def getaddrinfo(host, *rest, **named):
    check("looked up", host)
    return lookup(host, *rest, **named)
socket.getaddrinfo = getaddrinfo
"""
EXIT_CODE_OF_THE_GUARD = 97


def environment(folder: Path, cache: Path) -> dict[str, str]:
    """Sockets to other hosts blocked in the command and in its workers; HF_HUB_OFFLINE is not set, so nothing hides."""
    guard = guard_log(folder).parent
    guard.mkdir(parents=True, exist_ok=True)
    (guard / "sitecustomize.py").write_text(GUARD)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    sources = [str(guard), *filter(None, [os.environ.get("PYTHONPATH")])]  # the sources that the test itself runs
    own = {
        "PYTHONPATH": os.pathsep.join(sources),
        "NETWORK_GUARD_LOG": str(guard_log(folder)),
        "FEDCMP_CACHE": str(cache),
    }
    return kept | own | {"OMP_NUM_THREADS": "1"}


def guard_log(folder: Path) -> Path:
    """One line a process that loaded the guard: its arguments."""
    return folder / "guard" / "loaded"


def recipe(folder: Path, *, methods: list[str], workers: int = 1) -> Path:
    """A recipe file for a run of about ten seconds."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "small.toml"
    path.write_text(SMALL.format(methods=json.dumps(methods), workers=workers))
    return path


def command(*arguments: object) -> list[str]:
    """`fedcmp ARGUMENTS` with this interpreter."""
    return [sys.executable, "-m", "fedcmp", *map(str, arguments)]


def fedcmp(folder: Path, cache: Path, *arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run `fedcmp ARGUMENTS` in `folder` and check its exit code."""
    done = subprocess.run(
        command(*arguments), cwd=folder, env=environment(folder, cache), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


TIMES = ("seconds", "started", "ended", "arrived", "opened", "waited")


def metrics(run: Path) -> list[dict[str, object]]:
    """A run's records without times."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in TIMES} for line in lines]


def last_projector(run: Path) -> bytes:
    """The last checkpoint's projector file."""
    return (sorted((run / "checkpoints").glob("round-*"))[-1] / "projector.safetensors").read_bytes()
