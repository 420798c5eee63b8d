"""The server's talks with its sites: ask, wait, ask again; through lost messages, restarts and sites that come late.

    Sites.ask    many requests at once; yields each site's answer as it comes, until all are there or time is up

A site that does not know the run is invited and placed first; one that is still working is asked for its answer again,
by a message without tensors; one that lost its work gets it again.
"""

import logging
import time
from collections.abc import Callable, Generator, Iterator, Mapping

from fedcmp.deployment.exchange import Done, Exchange, Head, Maker, Note, Talk, Wanted
from fedcmp.deployment.register import Register
from fedcmp.errors import UserError
from fedcmp.federation.flower.link import Link
from fedcmp.version import __version__
from fedcmp.wire.edge_messages import PartialSum, parts_of
from fedcmp.wire.site_messages import (
    Admission,
    Answer,
    Collecting,
    Holding,
    Invitation,
    NotKnown,
    Placement,
    Refusal,
    Request,
    Working,
)

# client, answer -> why it does not answer what was asked; "" if it does
Fits = Callable[[int, Wanted], str]

_LOG = logging.getLogger(__name__)
_MOST_FAILURES = 3  # of a site that says that it could not do its work, within one exchange


class Sites:
    """The sites of one run.

    Args:
        link: carries frames.
        register: who takes part.
        recipe: the run's, as it is sent to sites.
        poll_seconds: how long a site may take before it says that it is still working.
        note: called with what happens to a site's messages.
        progress: called with a client, and how many steps of how many it has done.
        clock: seconds; for tests.
        sleep: likewise.
    """

    def __init__(
        self,
        link: Link,
        register: Register,
        recipe: str,
        *,
        poll_seconds: float,
        note: Note = lambda _client, _event, _detail: None,
        progress: Callable[[int, int, int], None] = lambda _client, _steps, _of: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        pause: float = 0.5,
    ) -> None:
        self.register = register
        self._link, self._recipe, self._patience = link, recipe, poll_seconds
        self._note, self._progress = note, progress
        self._clock, self._sleep, self._pause = clock, sleep, pause
        self._number = 0
        self._met: set[int] = set()  # invited in this process
        # told which client they are; one that has lost it since says so
        self._placed = {client for client, member in register.members.items() if member.holding is not None}

    def admit(self, *, seconds: float | None, least: int = 0) -> None:
        """Invite all sites that do not take part yet, and place those that answer, in the recipe's order.

        With fewer than `least` of them nobody is placed: the run does not begin, and whoever is missing now would come
        behind the others when it does.

        Args:
            seconds: how long answers to the invitations are waited for, and as long again those to the placements,
                which can only be sent then; None: all must be there.
            least: sites that the run needs.
        """
        clients = range(len(self.register.names))
        missing = [client for client in clients if client not in self.register.members]
        for _ in self._run({client: self._invite(client) for client in missing}, self.after(seconds)):
            pass
        if len(self.register.members) < least:
            return
        self.register.place(sorted(self.register.members))
        unplaced = [client for client, member in self.register.members.items() if member.holding is None]
        for _ in self._run({client: self._invited(client) for client in unplaced}, self.after(seconds)):
            pass
        self.register.flush()

    def after(self, seconds: float | None) -> float | None:
        """Return the time of the clock in so many seconds; None for no end."""
        return None if seconds is None else self._clock() + seconds

    def ask(
        self, requests: Mapping[int, Maker], *, fits: Fits, until: float | None, least: int = 0
    ) -> Iterator[tuple[int, Done]]:
        """Ask each site; yield the answers as they come.

        Args:
            requests: client -> what makes its request.
            fits: an answer that does not is refused, and the site is asked again.
            until: of `clock`, when waiting ends; None: wait for all.
            least: answers, refusals not counted, that are waited for even then.
        """
        talks = {client: self.talk(client, make, fits) for client, make in requests.items()}
        yield from self._run(talks, until, least=least)

    def is_placed(self, client: int) -> bool:
        """Return whether a site has been told which client it is, as far as is known."""
        return client in self._placed

    def forget(self, client: int) -> None:
        """Invite and place a site anew before it is asked for anything again: it may have lost the run."""
        self._placed.discard(client)

    def exchange(self) -> Exchange:
        """Return an exchange with these sites, of no talks yet."""
        return Exchange(
            self._link,
            self.register.names,
            self._head,
            patience=self._patience,
            note=self._note,
            clock=self._clock,
        )

    def wait(self, exchange: Exchange, until: float | None) -> Iterator[tuple[int, Done]]:
        """Take one look at an exchange, and a pause if it had nothing to tell."""
        found = False
        for end in exchange.step(until):
            found = True
            yield end
        if not found:
            self._sleep(self._pause)

    def _run(self, talks: Mapping[int, Talk], until: float | None, *, least: int = 0) -> Iterator[tuple[int, Done]]:
        exchange = self.exchange()
        for client, talk in talks.items():
            exchange.start(client, talk)
        while exchange.clients:
            for client, answer in self.wait(exchange, until if least <= 0 else None):
                least -= len(parts_of(answer)) if isinstance(answer, PartialSum) else not isinstance(answer, Refusal)
                yield client, answer
            if until is not None and self._clock() >= until and least <= 0:
                for client in exchange.clients:
                    self._note(client, "missing", "no answer by the deadline")
                return

    def _head(self, patience: float) -> Head:
        self._number += 1
        return Head(self.register.run, self.register.attempt, self._number, patience)

    def talk(self, client: int, make: Maker, fits: Fits) -> Talk:
        """Make one request to a site, whatever has to come first, until it is answered; see `ask`."""
        failures = 0
        while True:
            if client not in self._placed:
                refusal = yield from self._invited(client)
                if isinstance(refusal, Refusal):
                    return refusal
            answer = yield from self._patiently(client, make)
            if isinstance(answer, NotKnown):
                self._placed.discard(client)
                self._met.discard(client)
            elif isinstance(answer, Refusal):
                self._note(client, "refused", answer.reason)
                return answer
            else:
                wrong = fits(client, answer) if isinstance(answer, Wanted) else _said(answer)
                if not wrong and isinstance(answer, Wanted):
                    return answer
                failures += 1
                self._note(client, "refused", wrong)
                if failures == _MOST_FAILURES:
                    return Refusal(reason=wrong, accepted=False)

    def _invited(self, client: int) -> Talk:
        """Invite and place a site: it may have lost the run, or come to it late."""
        for _ in range(_MOST_FAILURES):
            if client not in self._met:
                admitted = yield from self._invite(client)
                if isinstance(admitted, Refusal):
                    return admitted
            first = self.register.placement(client)

            def place(head: Head, first: int = first) -> Request:
                clients = len(self.register.names)
                return Placement(**vars(head), client=client, clients=clients, first_position=first)

            answer = yield from self._patiently(client, place)
            if not isinstance(answer, NotKnown):
                break
            self._met.discard(client)  # it has lost the run since it was invited
        if isinstance(answer, Holding):
            try:
                self.register.hold(client, answer)
            except UserError as error:
                return self._turned_away(client, str(error))
            self._placed.add(client)
            return answer
        return self._turned_away(client, _said(answer))

    def _invite(self, client: int) -> Talk:
        def invite(head: Head) -> Request:
            return Invitation(**vars(head), release=__version__, recipe=self._recipe)

        answer = yield from self._patiently(client, invite)
        if not isinstance(answer, Admission):
            return self._turned_away(client, _said(answer))
        try:
            self.register.admit(client, answer)
        except UserError as error:
            return self._turned_away(client, str(error))
        self._met.add(client)
        self._note(client, "joined", f"{answer.usable:,} usable pairs")
        return answer

    def _patiently(self, client: int, make: Maker) -> Generator[Maker, Answer, Answer]:
        """Ask, and go on asking while the site is at work, or could not do it this time."""
        failures = 0
        answer = yield make
        while True:
            if isinstance(answer, Working):
                self._progress(client, answer.steps, answer.of)
                job = answer.job
                answer = yield lambda head, job=job: Collecting(**vars(head), job=job)  # type: ignore[misc]
            elif isinstance(answer, NotKnown) and answer.what == "job":
                self._note(client, "asked again", "the site lost the work under way")
                answer = yield make
            elif isinstance(answer, Refusal) and answer.accepted and failures < _MOST_FAILURES - 1:
                failures += 1
                self._note(client, "refused", answer.reason)
                answer = yield make
            else:
                return answer

    def _turned_away(self, client: int, reason: str) -> Refusal:
        self._note(client, "refused", reason)
        _LOG.warning("site %s: %s", self.register.names[client], reason)
        return Refusal(reason=reason, accepted=False)


def _said(answer: Answer) -> str:
    return answer.reason if isinstance(answer, Refusal) else f"an answer of another kind, {type(answer).__name__}"
