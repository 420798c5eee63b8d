"""Synchronous rounds of clients that a recipe makes slow, on a clock that their records show.

VirtualTransport   the clock counts what a round would take, and nobody waits: as long as its slowest client, or until
                   federation.deadline, when whoever would need longer has not replied and drops what it was doing.
                   An opening round counts as much as a part
WallTransport      clients really wait (simulation/engine.py); the clock is the wall's, from the first round on
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedcmp.federation.server import ServerSide
from fedcmp.runs.records import AnyRecord, ServerRound
from fedcmp.simulation.pool import Pool
from fedcmp.simulation.transport import PoolTransport
from fedcmp.wire.messages import Assignment, Reply
from fedcmp.wire.naming import Tensors


class TimedTransport(PoolTransport, ABC):
    """A pool's transport with a clock."""

    @abstractmethod
    def now(self) -> float:
        """Return the run's time in seconds."""

    @abstractmethod
    def continue_from(self, seconds: float) -> None:
        """Let the clock go on where a checkpoint left it."""


class VirtualTransport(TimedTransport):
    """Clients that take as long as a recipe says, without waiting.

    Args:
        pool: the workers.
        folders: see PoolTransport.
        names: of the clients.
        cohort: clients that are trained together.
        seconds: of each client for one part.
        deadline: of a round; None: none.
    """

    def __init__(
        self,
        pool: Pool,
        folders: Path,
        names: Sequence[str],
        *,
        cohort: int,
        seconds: Sequence[float],
        deadline: float | None,
    ) -> None:
        super().__init__(pool, folders, names, cohort=cohort)
        self._seconds, self._deadline = seconds, deadline
        self._now = 0.0

    def now(self) -> float:
        """See TimedTransport.now."""
        return self._now

    def continue_from(self, seconds: float) -> None:
        """See TimedTransport.continue_from."""
        self._now = seconds

    def exchange(
        self, assignments: Mapping[int, Assignment], *, until: float | None, done: Collection[int] = ()
    ) -> Iterator[Reply]:
        """See Transport.exchange; `until` is a time of the wall's clock, and not looked at."""
        del until
        limit = self._deadline
        needed = {client: self._seconds[client] for client in assignments}
        in_time = {c: a for c, a in assignments.items() if limit is None or needed[c] <= limit}
        yield from super().exchange(in_time, until=None, done=done)
        slowest = max(needed.values(), default=0.0)
        self._now += slowest if limit is None else min(slowest, limit)


class WallTransport(TimedTransport):
    """Clients that take as long as they take. See PoolTransport for its arguments."""

    _begun: float | None = None
    _before = 0.0  # seconds of the run before this process

    def now(self) -> float:
        """See TimedTransport.now."""
        return self._before + (0.0 if self._begun is None else time.monotonic() - self._begun)

    def continue_from(self, seconds: float) -> None:
        """See TimedTransport.continue_from."""
        self._before = seconds

    def exchange(
        self, assignments: Mapping[int, Assignment], *, until: float | None, done: Collection[int] = ()
    ) -> Iterator[Reply]:
        """See Transport.exchange."""
        if self._begun is None:
            self._begun = time.monotonic()
        return super().exchange(assignments, until=until, done=done)


class TimedSide(ServerSide):
    """A server side whose records and checkpoints hold the time.

    Args:
        *args: those of ServerSide.
        clock: what carries its assignments.
    """

    def __init__(self, *args: Any, clock: TimedTransport) -> None:
        super().__init__(*args)
        self._clock = clock

    def close(self) -> list[AnyRecord]:
        """See ServerSide.close."""
        records = super().close()
        if isinstance(records[-1], ServerRound):
            records[-1] = records[-1].model_copy(update={"clock": self._clock.now()})
        return records

    def known(self) -> dict[str, Any]:
        """See ServerSide.known."""
        return super().known() | {"clock": self._clock.now()}

    def restore(self, states: dict[str, Tensors], memory: Tensors, known: Mapping[str, Any]) -> None:
        """See ServerSide.restore."""
        super().restore(states, memory, known)
        self._clock.continue_from(float(known["clock"]))
