"""How a simulation's asynchronous clients are reached: one job of the pool for each part, replies as they are done.

    PoolCourier      the run's clock is the wall's: who is done first comes first
    VirtualCourier   a client's part takes so many virtual seconds; replies come in that order, whatever their training
                     really takes, ties by the clients' numbers. All parts that are out train meanwhile, on all workers
Both implement federation.arrivals.Courier.
"""

import time
from collections.abc import Sequence

from fedcmp.simulation.engine import read_replies
from fedcmp.simulation.pool import Pool
from fedcmp.simulation.transport import PoolTransport
from fedcmp.wire.messages import Assignment, Reply
from fedcmp.workers.pool import Submissions


class _Jobs:
    """Single assignments as jobs of the pool, each with a number of its own."""

    def __init__(self, pool: Pool, transport: PoolTransport) -> None:
        self._submissions: Submissions = pool.one_by_one()
        self._transport = transport
        self._sent = 0

    def submit(self, client: int, assignment: Assignment) -> int:
        self._sent += 1
        self._submissions.submit(self._sent, self._transport.job({client: assignment}))
        return self._sent

    def next(self, until: float | None = None) -> tuple[int, Reply] | None:
        done = self._submissions.next(until)
        if done is None:
            return None
        number, answer = done
        (reply,) = read_replies(answer.result, answer.tensors)
        return number, reply


class PoolCourier:
    """Clients that take as long as they take.

    Args:
        pool: the workers; with fewer of them than clients, clients wait for one.
        transport: knows the clients' folders.
    """

    def __init__(self, pool: Pool, transport: PoolTransport) -> None:
        self._jobs = _Jobs(pool, transport)
        self._zero = time.monotonic()

    def start(self, seconds: float) -> None:
        """See Courier.start."""
        self._zero = time.monotonic() - seconds

    def now(self) -> float:
        """See Courier.now."""
        return time.monotonic() - self._zero

    def send(self, client: int, assignment: Assignment, *, at: float) -> None:
        """See Courier.send. A client that was given up trains to its end; its reply is passed on and ignored."""
        del at
        self._jobs.submit(client, assignment)

    def next_reply(self, *, until: float | None) -> Reply | None:
        """See Courier.next_reply."""
        done = self._jobs.next(None if until is None else self._zero + until)
        return None if done is None else done[1]


class VirtualCourier:
    """Clients that take as long as a recipe says.

    Args:
        pool: the workers.
        transport: knows the clients' folders.
        seconds: of each client for one part, virtual.
    """

    def __init__(self, pool: Pool, transport: PoolTransport, seconds: Sequence[float]) -> None:
        self._jobs = _Jobs(pool, transport)
        self._seconds = seconds
        self._now = 0.0
        self._due: dict[int, tuple[float, int]] = {}  # client -> when its reply arrives, the number of its job
        self._done: dict[int, Reply] = {}  # by their jobs' numbers: trained, but not due yet

    def start(self, seconds: float) -> None:
        """See Courier.start."""
        self._now = seconds

    def now(self) -> float:
        """See Courier.now."""
        return self._now

    def send(self, client: int, assignment: Assignment, *, at: float) -> None:
        """See Courier.send."""
        self._due[client] = (at + self._seconds[client], self._jobs.submit(client, assignment))

    def next_reply(self, *, until: float | None) -> Reply | None:
        """See Courier.next_reply; the clock jumps to when it arrives, or to `until`.

        Raises:
            RuntimeError: there is nothing to wait for.
        """
        arrival, client = min(((at, client) for client, (at, _) in self._due.items()), default=(None, -1))
        if arrival is None and until is None:
            raise RuntimeError("no reply will come: nobody was sent anything")
        if arrival is None or (until is not None and arrival > max(until, self._now)):
            assert until is not None
            self._now = max(self._now, until)
            return None
        self._now = max(self._now, arrival)
        _, number = self._due.pop(client)
        while number not in self._done:
            done = self._jobs.next()
            assert done is not None
            if done[0] in {expected for _, expected in self._due.values()} | {number}:  # else it was given up
                self._done[done[0]] = done[1]
        return self._done.pop(number)
