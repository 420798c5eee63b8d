"""How an asynchronous server reaches its sites: one talk with each that is at work (federation.arrivals.Courier)."""

from collections import deque
from collections.abc import Callable

from fedcmp.deployment.exchange import Talk, Wanted, training
from fedcmp.deployment.site_notes import SiteNotes
from fedcmp.deployment.sites import Sites
from fedcmp.wire.messages import Assignment, Reply

_LATER = 60.0  # seconds before a site that refused is asked again


class SitesCourier:
    """Sites that take as long as they take; a site that refuses is asked again, until its part is given up.

    Args:
        method: of the run.
        sites: the talks with them.
        notes: what happens to messages.
        clock: of `sites`.
    """

    def __init__(self, method: str, sites: Sites, notes: SiteNotes, *, clock: Callable[[], float]) -> None:
        self._method, self._sites, self._notes, self._clock = method, sites, notes, clock
        self._exchange = sites.exchange()
        self._zero = clock()
        self._work: dict[int, Assignment] = {}
        self._arrived: deque[Reply] = deque()

    def start(self, seconds: float) -> None:
        """See Courier.start."""
        self._zero = self._clock() - seconds

    def now(self) -> float:
        """See Courier.now."""
        return self._clock() - self._zero

    def send(self, client: int, assignment: Assignment, *, at: float) -> None:
        """See Courier.send; the run's clock, not `at`, says how long the site has."""
        del at
        self._work[client] = assignment
        self._exchange.start(client, self._talk(client, assignment))
        self._notes.asked(client)

    def next_reply(self, *, until: float | None) -> Reply | None:
        """See Courier.next_reply."""
        ends = None if until is None else self._zero + until
        while not self._arrived:
            for client, answer in self._sites.wait(self._exchange, ends):
                work = self._work.pop(client)
                if isinstance(answer, Reply):
                    self._notes.done(client)
                    self._arrived.append(answer)
                else:
                    self._work[client] = work
                    self._exchange.start(client, self._talk(client, work), after=_LATER)
            if ends is not None and self._clock() >= ends and not self._arrived:
                return None
        return self._arrived.popleft()

    def _talk(self, client: int, assignment: Assignment) -> Talk:
        def fits(asked: int, answer: Wanted) -> str:
            if isinstance(answer, Reply) and (answer.client, answer.round) == (asked, assignment.round):
                return ""
            return "an answer to something else"

        return self._sites.talk(client, training(self._method, assignment), fits)
