"""How an asynchronous server's buffer fills: work goes out whenever a client is free, replies come in as they are done.

One merge of `buffered.Buffered`, for the rounds of rounds.py:
    1. take every reply that is there already
    2. give the newest tensors to every client that is free
    3. wait for the next reply, or for the first deadline; and again, until the buffer is full
Replies that arrive at the same instant are all taken before anybody is given new work: clients that are equally fast,
with a buffer as large as their number, go through synchronous rounds, to the bit.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Protocol

from fedcmp.federation.buffered import Buffered
from fedcmp.wire.messages import Assignment, Reply


class Courier(Protocol):
    """How single assignments reach the clients, and single replies come back; seconds are those of the run's clock."""

    def start(self, seconds: float) -> None:
        """Let the run's clock go on from there: 0, or where a checkpoint left it. Called once, first."""

    def now(self) -> float:
        """Return the run's clock."""

    def send(self, client: int, assignment: Assignment, *, at: float) -> None:
        """Send a client its work.

        Args:
            client: its number.
            assignment: the work; what the client was sent before counts no more.
            at: when the work began: now, or earlier where it is sent again after a kill.

        Raises:
            UserError, WorkerDied, WorkerFailed: the clients' side cannot continue.
        """

    def next_reply(self, *, until: float | None) -> Reply | None:
        """Return the reply that arrives next: to an assignment that this very process sent.

        Args:
            until: when waiting ends, with None; one that is there by then is returned. None: wait for it.

        Raises:
            UserError, WorkerDied, WorkerFailed: as `send`.
        """


class Arrivals:
    """One merge's replies (federation.rounds.Transport, for a Buffered side).

    Args:
        side: the server's half.
        courier: reaches the clients.
    """

    def __init__(self, side: Buffered, courier: Courier) -> None:
        self._side, self._courier = side, courier
        self._started = False

    def exchange(
        self, assignments: Mapping[int, Assignment], *, until: float | None, done: Collection[int] = ()
    ) -> Iterator[Reply]:
        """Yield replies until the buffer is full.

        Args:
            assignments: of clients that were out before this process began.
            until: not looked at: deadlines are those of single assignments.
            done: nobody.
        """
        del until, done
        side, courier = self._side, self._courier
        if not self._started:
            courier.start(side.clock)
            self._started = True
        for client, assignment in assignments.items():
            courier.send(client, assignment, at=side.out[client].since)
        side.clock = courier.now()
        while not side.is_full:
            reply = courier.next_reply(until=courier.now())
            if reply is None:
                for client, assignment in side.hand_out(courier.now()).items():
                    courier.send(client, assignment, at=side.out[client].since)
                reply = courier.next_reply(until=side.first_deadline)
                side.clock = courier.now()
            if reply is None:
                side.give_up_late()
            else:
                yield reply
