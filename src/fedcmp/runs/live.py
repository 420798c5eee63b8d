"""What a deployed run is doing at this moment: live.json in a run's folder or a site's, written whole at each event.

    {"method": "shared-basis", "round": 7, "rounds": 20, "opened": 1790000000.0, "deadline": 1790000600.0,
     "sites": {"north": {"state": "training", "since": 1790000004.0, "step": 12, "steps": 80, "detail": ""}},
     "updated": 1790000030.0}

Times are seconds since 1970 by the writer's clock. A server writes one entry per site, a site one for itself. The file
is for people who look on (`fedcmp status`): nothing resumes from it, and it is gone when the run has ended. Needs no
torch.
"""

import json
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

from fedcmp.errors import UserError
from fedcmp.files import write_whole
from fedcmp.runs.fields import Lenient, Number, Record, Text, Whole, table, text

LIVE = "live.json"
_FEW = 50  # sites: of so many each event is written at once
# nothing asked of it yet; its part of the round runs; its reply is there; the round goes on, or went on, without it and
# its reply may still come; it cannot be reached
State = Literal["waiting", "training", "done", "late", "out"]


class SiteNow(Record):
    """One site at this moment: its state and since when, which of how many optimiser steps it has done."""

    state: Annotated[State, Lenient(text)]
    since: Number
    step: Whole = None
    steps: Whole = None
    detail: Text = ""


def _sites(value: object) -> dict[str, SiteNow]:
    return {text(str(name)): SiteNow.from_line(table(entry)) for name, entry in table(value).items()}


class Live(Record):
    """A run at this moment; `deadline` is when the open round closes at the latest, None where it waits for all."""

    method: Text
    round: Whole
    rounds: Whole
    opened: Number
    deadline: Number
    sites: Annotated[dict[str, SiteNow], Lenient(_sites)]
    updated: Number

    @classmethod
    def read(cls, folder: Path) -> "Live | None":
        """Return what a folder's live.json says; None where there is none, or none that can be read."""
        try:
            content = json.loads((folder / LIVE).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return None
        return cls.from_line(content) if isinstance(content, dict) else None


class LiveFile:
    """Keeps live.json up to date; may be called from several threads.

    The file has an entry for every site: with many of them, what happens in quick succession is written together, so
    that writing takes a twentieth of the time at most.

    Args:
        folder: of the run, or of a site.
        method: what is run.
        rounds: of the whole run.
        sites: names of those that may take part.
    """

    def __init__(self, folder: Path, method: str, rounds: int, sites: Iterable[str]) -> None:
        self._path, self._lock = folder / LIVE, threading.Lock()
        self._not_before = 0.0  # of the monotonic clock
        self._later: threading.Timer | None = None
        self._closed = False
        self._method, self._rounds = method, rounds
        self._round, self._opened = 0, time.time()
        self._deadline: float | None = None
        waiting = SiteNow(state="waiting", since=self._opened)
        self._sites = dict.fromkeys(sites, waiting)
        self._write()

    def open(self, number: int, *, seconds: float | None = None) -> None:
        """Note that a round is opened, and after how many seconds it closes at the latest (None: it waits for all)."""
        with self._lock:
            self._round, self._opened = number, time.time()
            self._deadline = None if seconds is None else self._opened + seconds
            self._write()

    def site(
        self, name: str, state: State, *, step: int | None = None, steps: int | None = None, detail: str = ""
    ) -> None:
        """Note what a site is doing; it does so since now where its state is another than before."""
        with self._lock:
            before = self._sites.get(name)
            since = before.since if before is not None and before.state == state else time.time()
            self._sites[name] = SiteNow(state=state, since=since, step=step, steps=steps, detail=detail)
            self._write_soon()

    def close(self) -> None:
        """Take the file away: the run has ended."""
        with self._lock:
            self._closed = True
            self._path.unlink(missing_ok=True)

    def _write_soon(self) -> None:
        wait = self._not_before - time.monotonic()
        if wait <= 0 or len(self._sites) <= _FEW:
            self._write()
        elif self._later is None:
            self._later = threading.Timer(wait, self._write_later)
            self._later.daemon = True
            self._later.start()

    def _write_later(self) -> None:
        with self._lock:
            self._later = None
            if not self._closed:
                self._write()

    def _write(self) -> None:
        begun = time.monotonic()
        now = Live(
            method=self._method,
            round=self._round,
            rounds=self._rounds,
            opened=self._opened,
            deadline=self._deadline,
            sites=self._sites,
            updated=time.time(),
        )
        with suppress(UserError):  # a full disk: people do not see it, and the run goes on
            write_whole(self._path, json.dumps(now.line()).encode(), durable=False)
        self._not_before = time.monotonic() + 19 * (time.monotonic() - begun)
