"""What the processes of a schedule do: serve, or be a site's trainer. A fork server imports this once for all of them.

Both run the package's own code; only here, in the process that plays the part, is it told when to die, how far its
clock is off, and to ask again after tenths of a second instead of seconds.
"""

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any, Self

from fedcmp.deployment import exchange, trainer
from fedcmp.deployment.server_run import run_server
from fedcmp.errors import UserError
from fedcmp.federation.server import ServerSide
from fedcmp.runs import records
from fedcmp.runs.place import holds_something
from tools.faults.link import SocketLink
from tools.faults.moments import SERVER, SITE, strike
from tools.faults.places import SITES, Places, Setting

CLEAR_STOP = 2  # exit code of a process that said in one line why it stops
_AGAIN, _GRACE = (0.1, 0.2, 0.4, 0.8), 30.0


@dataclass(frozen=True)
class Strike:
    """A kill that is to come: the fault's number, the moment's name, at its how many-th time."""

    number: int
    moment: str
    count: int


@dataclass(frozen=True)
class Clock:
    """A clock that is `off` by so many seconds, from `after` seconds after the process's start on."""

    off: float
    after: float = 0.0


@dataclass(frozen=True)
class Part:
    """What a process is told: where it works, when it dies, what its clock says."""

    folder: Path
    strikes: Sequence[Strike] = ()
    clock: Clock | None = None


def serve(part: Part, setting: Setting, span: float) -> None:
    """Be the server.

    Raises:
        SystemExit: with CLEAR_STOP where the run cannot go on.
    """
    places = Places(part.folder)
    _begin(part, places.folder / "server.log", SERVER)
    _set(exchange, "_AGAIN", _AGAIN)
    _set(exchange, "_GRACE", _GRACE)
    _note_closings(places.closings)
    resume = holds_something(places.server)
    try:
        link = SocketLink({site: places.network(site) for site in SITES})
        run_server(places.recipe(setting, span), link, resume=resume, say=_say, pause=0.02)
    except UserError as error:
        _say(f"stopped: {error}")
        raise SystemExit(CLEAR_STOP) from None


def train(part: Part, site: str) -> None:
    """Be a site's trainer."""
    places = Places(part.folder)
    _begin(part, places.folder / f"{site}.log", SITE)
    trainer.main([str(places.file(site)), "--socket", str(places.trainer(site))])


def _begin(part: Part, log: Path, moments: dict[str, Any]) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, force=True)
    if part.clock is not None:
        _shift(part.clock)
    for each in part.strikes:
        strike(moments[each.moment], each.count, each.number, Places(part.folder).fired)


def _shift(clock: Clock) -> None:
    begun, true = time.monotonic(), time.time

    def off() -> float:
        return clock.off if time.monotonic() - begun >= clock.after else 0.0

    class Shifted(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return super().now(tz) + timedelta(seconds=off())

    _set(time, "time", lambda: true() + off())
    _set(records, "datetime", Shifted)


def _note_closings(path: Path) -> None:
    """Write down whose replies each round is closed with; of a round that is closed twice the last line counts."""
    close: Callable[[ServerSide], Any] = ServerSide.close

    def noting(side: ServerSide) -> Any:
        now = side._now()
        line = {"round": now.number, "opening": now.assignment.measure_only, "clients": sorted(side.arrived())}
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        return close(side)

    _set(ServerSide, "close", noting)


def _set(owner: Any, name: str, value: Any) -> None:
    setattr(owner, name, value)


def _say(line: str) -> None:
    print(line, flush=True)
