"""How far a long step is: bars in a terminal, a plain line now and then elsewhere. Loads no large library."""

import sys
import threading
import time
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from fedcmp.terminal import shown

PLAIN_EVERY = 10.0  # seconds between lines where there is no terminal


class Steps:
    """Progress of named steps on stderr; use as a context manager."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._live = console.is_terminal
        self._lock = threading.Lock()
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[note]}", markup=False),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
            disable=not self._live,
        )
        self._tasks: dict[str, TaskID] = {}
        self._told: dict[str, float] = {}
        self._first: dict[str, tuple[float, int]] = {}  # when each step was first heard of, and how far it was

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def preparing(self, what: str, done: int, total: int) -> None:
        """Show how far a step is: so much of so much done."""
        with self._lock:
            task = self._task(what, total)
            begun, before = self._first.setdefault(what, (time.monotonic(), done))
            rate = f"  {(done - before) / max(time.monotonic() - begun, 1e-9):,.0f}/s" if done > before else ""
            left = left_text((time.monotonic() - begun) * (total - done) / (done - before)) if done > before else ""
            self._progress.update(task, completed=done, total=total, note=f"{done:,}/{total:,}{rate}", left=left)
            if total > 1:
                self._say(what, f"{what}: {done:,} of {total:,}{rate}{apart(left)}", last=done >= total)
            elif done == 0 and what not in self._told:  # a step of one piece: that it ends is seen by what follows
                self._say(what, f"{what} ...", last=True)

    def say(self, line: str) -> None:
        """Print a line above the bars."""
        line = shown(line)
        self._progress.console.print(Text(line)) if self._live else print(line, file=sys.stderr, flush=True)

    def _task(self, name: str, total: int) -> TaskID:
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(shown(name), total=total, note="", left="")
        return self._tasks[name]

    def _say(self, key: str, line: str, *, last: bool) -> None:
        now = time.monotonic()
        if not self._live and (last or now - self._told.get(key, -PLAIN_EVERY) >= PLAIN_EVERY):
            self._told[key] = now
            print(shown(line), file=sys.stderr, flush=True)


def left_text(seconds: float | None) -> str:
    """Return "about 40 s left"; nothing where nothing is left or known."""
    return f"about {max(seconds, 1):.0f} s left" if seconds is not None and seconds > 1e-6 else ""


def apart(text: str) -> str:
    """Return a text behind two spaces; nothing for an empty one."""
    return f"  {text}" if text else ""
