"""Processes that a command starts, listens to, starts again when they die, and ends with itself.

A child has a process group of its own, so that a terminal's Ctrl-C is the command's to handle, and all that it has
started ends with it. What it prints goes to its log and, line by line, to whoever listens. When the command is killed,
the system kills its children (launch.py).
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from fedcmp.terminal import shown

MISTAKE, MISTAKE_CODE = "fedcmp: ", 2  # how a process says what its user has to put right, and ends
_KEPT_LINES = 50
_LOG_BYTES = 20_000_000  # of a log; the one before it is kept as well


class Child:
    """One process under supervision.

    Args:
        name: for messages and its log.
        command: the module or "module:function" to run, and its arguments.
        log: file that what it prints is added to.
        heard: called with each line that it prints, on a thread of its own.
        environment: variables added to this process's.
        folder: where it runs; default: here.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        heard: Callable[[str], None] = lambda _line: None,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        self.name, self.command = name, list(command)
        self._log, self._heard, self._folder = log, heard, folder
        self._environment = {**os.environ, **(environment or {}), "PYTHONUNBUFFERED": "1"}
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self.started_at = 0.0
        self.last_lines: deque[str] = deque(maxlen=_KEPT_LINES)

    @property
    def pid(self) -> int | None:
        """Return its number while it runs."""
        return self._process.pid if self._process is not None and self.running else None

    @property
    def running(self) -> bool:
        """Return whether it runs."""
        return self._process is not None and not _has_ended(self._process)

    @property
    def seconds(self) -> float:
        """Return how long ago it was started."""
        return time.monotonic() - self.started_at

    def start(self) -> None:
        """Start it, or start it again; to be called on the main thread, for the system ends it with this one."""
        self.end()
        self.last_lines.clear()
        self._log.parent.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fedcmp.deployment.launch", str(os.getpid()), *self.command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self._environment,
            cwd=self._folder,
            process_group=0,
            umask=0o077,
        )
        self.started_at = time.monotonic()
        assert self._process.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        self._reader.start()

    def ended(self) -> int | None:
        """Return the exit code of a process that has ended, its last lines read; None while it runs.

        What it has started and left behind is killed.
        """
        if self._process is None or not _has_ended(self._process):
            return None
        self._bury(self._process)
        return self._process.returncode

    def end(self, grace: float = 10.0) -> None:
        """End it and all that it has started: first SIGTERM, after `grace` seconds SIGKILL."""
        if self._process is None:
            return
        self.ask_to_end()
        deadline = time.monotonic() + grace
        while not _has_ended(self._process) and time.monotonic() < deadline:
            time.sleep(0.02)
        self._bury(self._process)

    def ask_to_end(self) -> None:
        """Send SIGTERM and do not wait."""
        if self._process is not None and not _has_ended(self._process):
            os.killpg(self._process.pid, signal.SIGTERM)

    def _bury(self, process: "subprocess.Popen[bytes]") -> None:
        if process.returncode is None:  # until it is waited for, its group keeps its number
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if self._reader is not None:
            self._reader.join(timeout=5)

    def _read(self, stream: IO[bytes]) -> None:
        with stream, _Log(self._log) as log:
            for raw in stream:
                line = raw.decode(errors="replace").rstrip("\n")
                log.write(line)
                if line.strip():
                    self.last_lines.append(line)
                    self._heard(line)


def _has_ended(process: "subprocess.Popen[bytes]") -> bool:
    """Return whether a process has ended, without giving its number free."""
    if process.returncode is not None:
        return True
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None


class _Log:
    """A file that lines are added to, each with its time; when it is full, it becomes the one before."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> "_Log":
        self._open()
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, line: str) -> None:
        """Add a line; a log that cannot be written stops nobody."""
        with suppress(OSError):
            self._file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")
            self._file.flush()
            if self._file.tell() > _LOG_BYTES:
                self._file.close()
                self._path.replace(self._path.with_name(f"{self._path.name}.1"))
                self._open()

    def _open(self) -> None:
        self._file = self._path.open("a", encoding="utf-8", errors="replace")


def tell(line: str) -> None:
    """Print a line of a supervised process."""
    print(shown(line), flush=True)


def end_all(children: Sequence[Child], grace: float = 10.0) -> None:
    """End several children side by side."""
    for child in children:
        child.ask_to_end()
    deadline = time.monotonic() + grace
    for child in children:
        child.end(max(0.1, deadline - time.monotonic()))


class Restarts:
    """When a process that died is started again: at once at first, later after growing waits, and not without end.

    Args:
        most: deaths in a row, each within `quick` seconds of its start, after which it is given up; None: never.
        quick: seconds that a process must live to count as a success.
        longest: the longest wait, in seconds.
    """

    def __init__(self, *, most: int | None = 5, quick: float = 60.0, longest: float = 60.0) -> None:
        self._most, self._quick, self._longest = most, quick, longest
        self._deaths = 0
        self._next = 0.0

    def died(self, lived: float) -> bool:
        """Note a death.

        Args:
            lived: seconds that it lived.

        Returns:
            Whether it is started again.
        """
        self._deaths = 1 if lived >= self._quick else self._deaths + 1
        self._next = time.monotonic() + self.wait
        return self._most is None or self._deaths < self._most

    @property
    def wait(self) -> float:
        """Return the seconds between the last death and the next start."""
        return 0.0 if self._deaths <= 1 else min(self._longest, 2.0 ** (self._deaths - 1))

    @property
    def due(self) -> bool:
        """Return whether the wait is over."""
        return time.monotonic() >= self._next
