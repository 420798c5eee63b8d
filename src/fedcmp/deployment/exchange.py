"""Many talks with sites at once over one link: send, hear, send again what was lost.

A talk is a generator: it yields what makes the next request, is sent the answer, and returns what came of it. A message
lives `patience` and a little longer, so that a lost one is noticed, however long the work takes; a site that cannot be
reached is written to when it is back.
"""

from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass

from fedcmp.federation.flower.link import Link, Lost
from fedcmp.runs.records import Happening
from fedcmp.wire.edge_messages import PartialSum
from fedcmp.wire.edge_requests import Delegating
from fedcmp.wire.messages import Assignment, Reply
from fedcmp.wire.naming import MessageError
from fedcmp.wire.payload import wire_bytes
from fedcmp.wire.site_messages import (
    Admission,
    Answer,
    Frame,
    Holding,
    Judged,
    Kept,
    Refusal,
    Request,
    Training,
    read_answer,
)

_GRACE = 60.0  # seconds that a message lives beyond the site's patience: both ways, and a process for it
_SLOWEST = 50_000.0  # bytes per second: a message lives as long as its tensors need on such a link, and the answer's
_ANSWER = 4  # times the tensors of the largest request that an answer may have: second moments and Gram matrices
_OVERDUE = 120.0  # seconds beyond that: a message is lost then, whatever the link says of it
_AGAIN = (2.0, 5.0, 15.0, 60.0)  # seconds before a lost message is sent again; the last for ever
_MOST_MALFORMED = 3  # answers in a row before a site is left out


@dataclass(frozen=True)
class Head:
    """What every request of one message carries."""

    run: str
    attempt: int
    number: int
    patience: float


Maker = Callable[[Head], Request | Delegating]
Wanted = Reply | PartialSum | Judged | Kept  # what a request is for
Done = Wanted | Admission | Holding | Refusal
Talk = Generator[Maker, Answer, Done]
Note = Callable[[int, Happening, str], None]  # client, event, detail


def training(method: str, assignment: Assignment) -> Maker:
    """Return what makes the request that sends a client its assignment."""
    return lambda head: Training(**vars(head), method=method, assignment=assignment)


@dataclass
class _Line:
    """A talk, and where it stands."""

    talk: Talk
    next: Maker
    sent: str | None = None
    lost_at: float = 0.0  # when nobody waits for the answer any more
    not_before: float = 0.0
    losses: int = 0
    refusals: int = 0
    malformed: int = 0
    online: bool = True


class Exchange:
    """Talks under way, one a site at most.

    Args:
        link: carries frames.
        names: of the sites, by client number.
        head: makes the head of the next request, whose answer is due after so many seconds.
        patience: seconds that a site may take before it says that it is still working.
        note: called with what happens to a site's messages.
        clock: seconds.
    """

    def __init__(
        self,
        link: Link,
        names: list[str] | Mapping[int, str],
        head: Callable[[float], Head],
        *,
        patience: float,
        note: Note,
        clock: Callable[[], float],
    ) -> None:
        self._link, self._names, self._head, self._patience = link, names, head, patience
        self._note, self._clock = note, clock
        self._lines: dict[int, _Line] = {}
        self._largest = 0  # bytes of the largest request: the answer to it may be asked for by one without tensors

    @property
    def clients(self) -> list[int]:
        """The sites whose talk is not over."""
        return list(self._lines)

    def start(self, client: int, talk: Talk, *, after: float = 0.0) -> None:
        """Begin a talk, after so many seconds; one that is under way with that site is given up."""
        self._lines[client] = _Line(talk, next(talk), not_before=self._clock() + after)

    def step(self, until: float | None) -> Iterator[tuple[int, Done]]:
        """Send what is to be sent, and yield the ends of the talks that are over now.

        Args:
            until: of the clock, when nobody waits any more; None: not known.
        """
        if self._lines:
            self._send(until)
            yield from self._hear()

    def _send(self, until: float | None) -> None:
        online, now = self._link.online(), self._clock()
        left = self._patience if until is None else max(0.0, until - now)
        patience = min(self._patience, left)
        for client, line in self._lines.items():
            name = self._names[client]
            if (name in online) != line.online:
                line.online = name in online
                self._note(client, "rejoined" if line.online else "lost", "" if line.online else "cannot be reached")
            if line.sent is not None or now < line.not_before or name not in online:
                continue
            header, tensors = line.next(self._head(patience)).to_tensors()
            self._largest = max(self._largest, wire_bytes(tensors))
            seconds = patience + _GRACE + (1 + _ANSWER) * self._largest / _SLOWEST
            try:
                line.sent = self._link.push(name, (header, tensors), seconds=seconds)
                line.lost_at = now + seconds + _OVERDUE
            except ConnectionError as error:
                self._again(client, line, str(error))

    def _hear(self) -> Iterator[tuple[int, Done]]:
        waiting = {line.sent: client for client, line in self._lines.items() if line.sent is not None}
        for sent, frame in self._link.pull(list(waiting)):
            client = waiting[sent]
            line = self._lines.get(client)
            if line is None or line.sent != sent:  # answered already
                continue
            line.sent = None
            answer = self._read(frame)
            if isinstance(answer, Lost):
                self._again(client, line, answer.reason)
                line.malformed = line.malformed + 1 if answer.malformed else 0
                if line.malformed == _MOST_MALFORMED:
                    reason = f"malformed answers, the last: {answer.reason}"
                    self._note(client, "refused", reason)
                    del self._lines[client]
                    yield client, Refusal(reason=reason[:4000], accepted=False)
                continue
            line.losses = line.malformed = 0
            try:
                line.next = line.talk.send(answer)
            except StopIteration as over:
                del self._lines[client]
                yield client, over.value
                continue
            if isinstance(answer, Refusal):
                line.not_before = self._clock() + _AGAIN[min(line.refusals, len(_AGAIN) - 1)]
                line.refusals += 1
        now = self._clock()
        for client, line in self._lines.items():
            if line.sent is not None and now > line.lost_at:
                line.sent = None
                self._again(client, line, "no answer, and no word of what became of the message")

    def _read(self, frame: Frame | Lost) -> Answer | Lost:
        if isinstance(frame, Lost):
            return frame
        try:
            return read_answer(*frame)
        except MessageError as error:
            return Lost(str(error), malformed=True)

    def _again(self, client: int, line: _Line, reason: str) -> None:
        line.not_before = self._clock() + _AGAIN[min(line.losses, len(_AGAIN) - 1)]
        line.losses += 1
        self._note(client, "asked again", reason)
