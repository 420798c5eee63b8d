"""An edge server: towards the server above it a site that answers requests, towards its own sites a server.

    Relay        handed to the site that it names; the site's answer goes back as it is
    Delegating   assignments to all of its sites, their replies folded into one sum (federation/edge.py): a PartialSum

Sites beneath an edge notice nothing: they are invited, placed and judged by the server through it, and what they are
willing to send and what they refuse is theirs to say. The edge sees their replies, the server only the sum. An edge
keeps the replies of the round under way on disk; killed, it asks only the sites whose reply is missing.
"""

import threading
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from fedcmp.config.methods import Chosen
from fedcmp.deployment.exchange import Exchange, Head, Maker, Talk, training
from fedcmp.deployment.jobs import Job
from fedcmp.deployment.refusals import Declined, check_release, refusal
from fedcmp.errors import UserError
from fedcmp.federation.edge import EdgeSide, check_sums
from fedcmp.federation.flower.link import Link, Lost
from fedcmp.wire.edge_requests import Delegating, Relay, Unreached, read_edge_request
from fedcmp.wire.messages import Assignment, Reply
from fedcmp.wire.naming import MessageError, Tensors
from fedcmp.wire.site_messages import (
    Answer,
    Collecting,
    Frame,
    Header,
    NotKnown,
    Refusal,
    Working,
)

_EARLIER = 0.1  # share of the time left to a round that the edge's sum needs on its way
_MOST_PATIENCE = 600.0  # seconds that one request waits for its answer
_GRACE = 60.0


class Edge:
    """Answers a server's requests, from any number of threads.

    Args:
        link: carries frames to its sites.
        folder: for the replies of the round under way.
        say: called with a line for the edge's people.
        clock, sleep, pause: as of deployment.sites.Sites.
    """

    def __init__(
        self,
        link: Link,
        folder: Path,
        say: Callable[[str], None] = lambda _line: None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        pause: float = 0.5,
    ) -> None:
        self._link, self._folder, self._say = _Guarded(link), folder, say
        self._clock, self._sleep, self._pause = clock, sleep, pause
        self._lock = threading.Lock()
        self._jobs: dict[str, Job] = {}  # of one exchange
        self._exchanged: object = None  # which

    def answer(self, header: Header, tensors: Tensors) -> Frame:
        """Return the answer to one request, within its patience."""
        try:
            request = read_edge_request(header, tensors)
            if isinstance(request, Delegating):
                check_release(request.release, "this edge server")
        except (MessageError, Declined) as error:
            return refusal(error, self._say).to_tensors()
        if isinstance(request, Delegating):
            with self._lock:
                job = self._job_of(request)
            return self._when_done(job, request.patience)
        with self._lock:
            own = self._jobs.get(_collected(request.frame))
        if own is not None:  # is it done?
            return self._when_done(own, float(request.frame[0]["patience"]))
        return self._relay(request)

    def malformed(self, error: ValueError) -> Frame:
        """Return the answer to what is no message of a server."""
        return refusal(MessageError(str(error)), self._say).to_tensors()

    def _when_done(self, job: Job, patience: float) -> Frame:
        if not job.wait(min(patience, _MOST_PATIENCE)) or job.answer is None:
            return Working(job=job.name, steps=job.steps, of=job.of).to_tensors()
        return job.answer

    def _job_of(self, request: Delegating) -> Job:
        """Return the job that does what is asked, begun if it is not there; those of other exchanges end."""
        shared = request.delegation.assignment
        exchange = request.run, request.method, shared.round, shared.measure_only
        if exchange != self._exchanged:
            for job in self._jobs.values():
                job.supersede()
            self._jobs, self._exchanged = {}, exchange
        name = request.job
        if name not in self._jobs or self._jobs[name].failed:
            self._jobs[name] = Job(name, lambda job: self._sum(job, request), self._say, len(request.sites))
            self._jobs[name].start()
        return self._jobs[name]

    def _relay(self, request: Relay) -> Frame:
        """Hand a request on, and wait for its answer; a site that sends none is asked again by the server."""
        if request.site not in self._link.online():
            return Unreached(reason="the edge server cannot reach it").to_tensors()
        patience = request.frame[0].get("patience")
        seconds = min(float(patience), _MOST_PATIENCE) if isinstance(patience, int | float) else 0.0
        try:
            sent = self._link.push(request.site, request.frame, seconds=seconds + _GRACE)
        except ConnectionError as error:
            return Unreached(reason=str(error)).to_tensors()
        until = self._clock() + seconds + _GRACE
        while self._clock() < until:
            for _, frame in self._link.pull([sent]):
                return Unreached(reason=frame.reason).to_tensors() if isinstance(frame, Lost) else frame
            self._sleep(self._pause)
        return Unreached(reason="no answer in time").to_tensors()

    def _sum(self, job: Job, request: Delegating) -> Frame:
        """Let all sites carry out their assignments, and add up what they send.

        Raises:
            Declined: no site replied, or the rule does not add up.
        """
        delegation = request.delegation
        try:
            shared = delegation.assignment
            chosen = Chosen(request.rule, "plain", request.rule_options, {}, shared.step, shared.step_options)
            rule = chosen.create_aggregator()
            check_sums(request.method, rule)
        except (TypeError, ValueError, UserError) as error:
            raise Declined(f"rule {request.rule}: {error}") from error
        side = EdgeSide(rule, delegation, self._folder / request.run / request.method)
        names = dict(zip(sorted(delegation.continues), request.sites, strict=True))
        exchange = self._exchange(request, names)
        for client, assignment in side.assignments.items():
            if client not in side.arrived():
                exchange.start(client, _talk(request, assignment))
        until = None if request.seconds is None else self._clock() + (1 - _EARLIER) * request.seconds
        while exchange.clients and (until is None or self._clock() < until):
            job.step()
            job.steps, found = len(side.arrived()), False
            for client, answer in exchange.step(until):
                found = True
                if isinstance(answer, Reply):
                    said = side.receive(answer) if answer.client == client else "it names another client"
                else:
                    said = answer.reason if isinstance(answer, Refusal) else f"a {type(answer).__name__}"
                if said:
                    self._say(f"{request.method}, round {delegation.assignment.round}: {names[client]}: {said}")
            if not found:
                self._sleep(self._pause)
        result = side.close()
        if result is None:
            raise Declined("no site beneath this edge server replied in time")
        count = f"{len(result.accounts)} of {len(names)}"
        self._say(f"{request.method}, round {delegation.assignment.round}: the sum of {count} sites")
        return result.to_tensors()

    def _exchange(self, request: Delegating, names: dict[int, str]) -> Exchange:
        return Exchange(
            self._link,
            names,
            # the server's own ticket: a site takes it, since none later has been relayed
            lambda patience: Head(request.run, request.attempt, request.number, patience),
            patience=max(1.0, request.patience),
            note=lambda client, event, detail: self._say(f"{names[client]} {event}{f': {detail}' if detail else ''}"),
            clock=self._clock,
        )


def _talk(request: Delegating, assignment: Assignment) -> Talk:
    """Ask one site for its part, and go on asking while it is at work."""
    train = training(request.method, assignment)
    make = train
    while True:
        answer: Answer = yield make
        if isinstance(answer, Working):
            make = _collecting(answer.job)
        elif isinstance(answer, NotKnown) and answer.what == "job":
            make = train
        elif isinstance(answer, Reply | Refusal):
            return answer
        else:  # the server invites it again before the next round
            return Refusal(reason="it has lost the run", accepted=True)


def _collecting(job: str) -> Maker:
    return lambda head: Collecting(**vars(head), job=job)


def _collected(frame: Frame) -> str:
    """Return which job a frame asks for, "" where it asks for none."""
    try:
        return Collecting.from_tensors(*frame).job
    except MessageError:
        return ""


class _Guarded:
    """A Link that one thread at a time uses."""

    def __init__(self, link: Link) -> None:
        self._link, self._lock = link, threading.Lock()

    def online(self) -> frozenset[str]:
        with self._lock:
            return self._link.online()

    def push(self, site: str, frame: Frame, *, seconds: float) -> str:
        with self._lock:
            return self._link.push(site, frame, seconds=seconds)

    def pull(self, sent: Collection[str]) -> Iterator[tuple[str, Frame | Lost]]:
        answers = iter(self._link.pull(sent))
        while True:
            with self._lock:  # others may send while an answer is made use of
                found = next(answers, None)
            if found is None:
                return
            yield found
