"""The server's talks with its sites: ask, wait, ask again; through lost messages, restarts and sites that come late.

    Sites.ask    many requests at once; yields each site's answer as it comes, until all are there or time is up

With each site goes a talk of its own: a site that does not know the run is invited and placed first; one that is still
working is asked for its answer again, by a message without tensors; one whose message was lost gets it again. A message
lives `poll_seconds` and a little longer, so that a lost one is noticed, however long the work takes.
"""

import logging
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field

from fedcmp.deployment.register import Register
from fedcmp.errors import UserError
from fedcmp.federation.flower.link import Link, Lost
from fedcmp.runs.records import Happening
from fedcmp.version import __version__
from fedcmp.wire.messages import Reply
from fedcmp.wire.naming import MessageError
from fedcmp.wire.site_messages import (
    Admission,
    Answer,
    Collecting,
    Holding,
    Invitation,
    Judged,
    NotKnown,
    Placement,
    Refusal,
    Request,
    Working,
    read_answer,
)

_LOG = logging.getLogger(__name__)
_GRACE = 60.0  # seconds that a message lives beyond the site's patience: both ways, and a process for it
_AGAIN = (2.0, 5.0, 15.0, 60.0)  # seconds before a lost message is sent again, the last ones for ever
_MOST_FAILURES = 3  # of a site that says that it could not do its work, within one exchange


@dataclass(frozen=True)
class Head:
    """What every request of one message carries."""

    run: str
    attempt: int
    number: int
    patience: float


Maker = Callable[[Head], Request]
Done = Reply | Judged | Admission | Holding | Refusal
Talk = Generator[Maker, Answer, Done]
Note = Callable[[int, Happening, str], None]  # client, event, detail


@dataclass
class _Line:
    """A talk, and where it stands."""

    talk: Talk
    next: Maker
    sent: str | None = None
    not_before: float = 0.0
    losses: int = 0
    online: bool = field(default=True)


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
        # told which client they are; one that has lost it since says so
        self._placed = {client for client, member in register.members.items() if member.holding is not None}

    def admit(self, *, until: float | None) -> None:
        """Invite all sites that do not take part yet, and place those that answer, in the recipe's order.

        Args:
            until: of `clock`, when waiting ends; None: all must be there.
        """
        clients = range(len(self.register.names))
        missing = [client for client in clients if client not in self.register.members]
        for _ in self._run({client: self._invite(client) for client in missing}, until):
            pass
        for client in sorted(self.register.members):
            self.register.placement(client)
        unplaced = [client for client, member in self.register.members.items() if member.holding is None]
        for _ in self._run({client: self._invited(client) for client in unplaced}, until):
            pass

    def ask(self, requests: Mapping[int, Maker], *, until: float | None, least: int = 0) -> Iterator[tuple[int, Done]]:
        """Ask each site; yield the answers as they come.

        Args:
            requests: client -> what makes its request.
            until: of `clock`, when waiting ends; None: wait for all.
            least: answers, refusals not counted, that are waited for even then.
        """
        talks = {client: self._talk(client, make) for client, make in requests.items()}
        yield from self._run(talks, until, least=least)

    def _run(self, talks: Mapping[int, Talk], until: float | None, *, least: int = 0) -> Iterator[tuple[int, Done]]:
        lines = {client: _Line(talk, next(talk)) for client, talk in talks.items()}
        while lines:
            self._send(lines, until if least <= 0 else None)
            for client, answer in self._hear(lines):
                least -= not isinstance(answer, Refusal)
                yield client, answer
            if not lines:
                return
            if until is not None and self._clock() >= until and least <= 0:
                for client in lines:
                    self._note(client, "missing", "no answer by the deadline")
                return
            self._sleep(self._pause)

    def _send(self, lines: dict[int, _Line], until: float | None) -> None:
        online = self._link.online()
        now = self._clock()
        left = max(0.0, until - now) if until is not None else self._patience
        patience = min(self._patience, left)
        for client, line in lines.items():
            name = self.register.names[client]
            if (name in online) != line.online:
                line.online = name in online
                self._note(client, "rejoined" if line.online else "lost", "" if line.online else "cannot be reached")
            if line.sent is not None or now < line.not_before or name not in online:
                continue
            self._number += 1
            request = line.next(Head(self.register.run, self.register.attempt, self._number, patience))
            try:
                line.sent = self._link.push(name, request.to_tensors(), seconds=patience + _GRACE)
            except ConnectionError as error:
                self._again(client, line, str(error))

    def _hear(self, lines: dict[int, _Line]) -> Iterator[tuple[int, Done]]:
        waiting = {line.sent: client for client, line in lines.items() if line.sent is not None}
        for sent, frame in self._link.pull(list(waiting)):
            client = waiting[sent]
            line = lines[client]
            line.sent = None
            if isinstance(frame, Lost):
                self._again(client, line, frame.reason)
                continue
            try:
                answer = read_answer(*frame)
            except MessageError as error:
                self._again(client, line, f"malformed answer: {error}")
                if line.losses >= _MOST_FAILURES:
                    self._note(client, "refused", f"malformed answer: {error}")
                    del lines[client]
                continue
            line.losses = 0
            try:
                line.next = line.talk.send(answer)
            except StopIteration as over:
                del lines[client]
                yield client, over.value

    def _again(self, client: int, line: _Line, reason: str) -> None:
        line.not_before = self._clock() + _AGAIN[min(line.losses, len(_AGAIN) - 1)]
        line.losses += 1
        self._note(client, "asked again", reason)

    def _talk(self, client: int, make: Maker) -> Talk:
        """One request to a site, whatever has to come first, until it is answered."""
        failures = 0
        while True:
            if client not in self._placed:
                refusal = yield from self._invited(client)
                if isinstance(refusal, Refusal):
                    return refusal
            answer = yield from self._patiently(client, make)
            if isinstance(answer, NotKnown):
                self._placed.discard(client)
            elif isinstance(answer, Refusal):
                failures += 1
                self._note(client, "refused", answer.reason)
                if not answer.accepted or failures == _MOST_FAILURES:
                    return answer
            elif isinstance(answer, Reply | Judged):
                return answer
            else:
                failures += 1
                self._note(client, "refused", f"an answer of another kind, {type(answer).__name__}")
                if failures == _MOST_FAILURES:
                    return Refusal(reason="answers of another kind", accepted=False)

    def _invited(self, client: int) -> Talk:
        """Invite and place a site: it may have lost the run, or come to it late."""
        admitted = yield from self._invite(client)
        if isinstance(admitted, Refusal):
            return admitted
        first = self.register.placement(client)

        def place(head: Head) -> Request:
            clients = len(self.register.names)
            return Placement(**vars(head), client=client, clients=clients, first_position=first)

        answer = yield from self._patiently(client, place)
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
        self._note(client, "joined", f"{answer.usable:,} usable pairs")
        return answer

    def _patiently(self, client: int, make: Maker) -> Generator[Maker, Answer, Answer]:
        """Ask, and go on asking while the site is at work."""
        answer = yield make
        while True:
            if isinstance(answer, Working):
                self._progress(client, answer.steps, answer.of)
                job = answer.job
                answer = yield lambda head, job=job: Collecting(**vars(head), job=job)  # type: ignore[misc]
            elif isinstance(answer, NotKnown) and answer.what == "job":
                self._note(client, "asked again", "the site lost the work under way")
                answer = yield make
            else:
                return answer

    def _turned_away(self, client: int, reason: str) -> Refusal:
        self._note(client, "refused", reason)
        _LOG.warning("site %s: %s", self.register.names[client], reason)
        return Refusal(reason=reason, accepted=False)


def _said(answer: Answer) -> str:
    return answer.reason if isinstance(answer, Refusal) else f"an answer of another kind, {type(answer).__name__}"
