"""All rounds of one method: sample, send, collect, close, evaluate, save, log.

What differs from place to place is handed in: a server side (server.py, or apart.py for learners without one), a
transport that carries assignments to clients and replies back, and an evaluator. A simulation and a deployment run
this very loop.
"""

import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Protocol

from fedcmp.config import Recipe
from fedcmp.runs.best import Best
from fedcmp.runs.folder import Checkpoint, RunFolder
from fedcmp.runs.record_files import read_records
from fedcmp.runs.records import AnyRecord, Evaluation, Finished, ServerRound, timestamp
from fedcmp.wire.edge_messages import AnyReply
from fedcmp.wire.messages import Assignment
from fedcmp.wire.naming import Tensors

_LOG = logging.getLogger(__name__)


class Transport(Protocol):
    """How assignments reach the clients and replies come back."""

    def exchange(
        self, assignments: Mapping[int, Assignment], *, until: float | None, done: Collection[int] = ()
    ) -> Iterator[AnyReply]:
        """Send each client its assignment; yield replies in any order, also twice, late or never.

        Args:
            assignments: client -> its assignment; all hold the same tensors.
            done: clients whose reply is there already: they need not be asked, and no reply of theirs is yielded.
            until: time.monotonic() at which waiting ends; None: wait for all.

        Raises:
            UserError, WorkerDied, WorkerFailed: the clients' side cannot go on.
        """


class Evaluator(Protocol):
    """How good the trained tensors are, and what they let the model say."""

    def references(self, initial: Tensors) -> list[Evaluation]:
        """Evaluation records of the blind LLM and of the initial tensors."""

    def evaluations(self, states: Mapping[str, Tensors], round_number: int, *, last: bool) -> list[Evaluation]:
        """Evaluation records after a round: who ("global", "client-0", ...) -> its tensors."""

    def samples(self, states: Mapping[str, Tensors]) -> None:
        """Let every model caption the images that the report shows."""


class Side(Protocol):
    """The server's half of a round; see server.py."""

    states: dict[str, Tensors]

    def clients_of(self, number: int) -> list[int]:
        """Return who takes part in a round."""

    @property
    def needs_opening(self) -> bool:
        """Whether a round that only measures comes first."""

    def open(self, number: int, clients: list[int], *, measure_only: bool = False) -> dict[int, Assignment]:
        """Open a round."""

    def arrived(self) -> frozenset[int]:
        """Return whose reply to the open round is there, also from before a kill."""

    def receive(self, reply: AnyReply) -> str:
        """Take one reply; say why where it is ignored."""

    def close(self) -> list[AnyRecord]:
        """Close the round and return its records."""

    def settled(self) -> None:
        """Forget the replies of the last round: its checkpoint is on disk."""

    def memory(self) -> Tensors:
        """Return the server's tensors for a checkpoint."""

    def known(self) -> dict[str, Any]:
        """Return the server's plain values for a checkpoint."""

    def restore(self, states: dict[str, Tensors], memory: Tensors, known: Mapping[str, Any]) -> None:
        """Take up a checkpoint."""


class Events:
    """What a run reports while it works; the default says nothing."""

    def planned(self, lines: list[str], misfits: list[str]) -> None:
        """What the run will need was worked out; `misfits` is what this machine seems not to have."""

    def client_done(self, method: str, round_number: int, client: int, clients: int, loss: float) -> None:
        """A client finished its part."""

    def part_done(self, method: str, done: int, parts: int, client: int, loss: float) -> None:
        """An asynchronous client finished a part: so many of all parts are done."""

    def round_done(self, method: str, round_number: int, rounds: int, evaluation: Evaluation | None) -> None:
        """A round was merged, judged and saved."""


class Rounds:
    """One method's rounds.

    Args:
        method: its name.
        recipe: rounds, deadline, how often it is judged.
        side: the server, or none (apart.py).
        transport: carries assignments and replies.
        evaluator: measures what was learned.
        folder: where the run is kept.
        first_records: what comes first in metrics.jsonl.
        events: receives progress.
        notes: called once per round, when it is closed; its records are logged with the round's.
        rounds: how many; default: the recipe's.
    """

    def __init__(
        self,
        method: str,
        recipe: Recipe,
        side: Side,
        transport: Transport,
        evaluator: Evaluator,
        folder: RunFolder,
        *,
        first_records: list[AnyRecord],
        events: Events,
        notes: Callable[[], Sequence[AnyRecord]] = tuple,
        rounds: int | None = None,
    ) -> None:
        self.method, self.side, self._rounds = method, side, rounds or recipe.federation.rounds
        self._recipe, self._transport, self._evaluator, self._folder = recipe, transport, evaluator, folder
        self._first_records, self._events, self._notes = first_records, events, notes

    def run(self, *, resume: bool, references: bool = True) -> None:
        """Run all rounds after the last complete one, then write the samples.

        Args:
            resume: continue from the folder's last checkpoint if it has one.
            references: judge the blind LLM and the initial tensors first.

        Raises:
            UserError: a client's update was refused and the recipe says to stop, or too few clients replied.
        """
        if resume and self._folder.finished:
            return
        checkpoint = self._folder.resume() if resume else None
        if checkpoint is None:
            evaluated = self._evaluator.references(next(iter(self.side.states.values()))) if references else []
            self._folder.log([*self._first_records, *evaluated])
        else:
            self.side.restore(checkpoint.projectors, checkpoint.server, checkpoint.state)
        rounds = self._rounds
        best = Best.read(checkpoint.state) if checkpoint else None
        for number in range((checkpoint.round if checkpoint else 0) + 1, rounds + 1):
            records = [*self._round(number), *self._notes()]
            evaluation = None
            if number % self._recipe.evaluation.every == 0 or number == rounds:
                evaluations = self._evaluator.evaluations(self.side.states, number, last=number == rounds)
                records += evaluations
                evaluation = evaluations[0] if evaluations else None
                best = Best.after(best, number, evaluations)
            self._folder.log(records)
            known = {"method": self.method} | self.side.known() | (best.state() if best else {})
            self._folder.save(Checkpoint(number, self.side.states, self.side.memory(), known))
            self.side.settled()
            self._events.round_done(self.method, number, rounds, evaluation)
        self._evaluator.samples(self.side.states)
        self.side.settled()  # of a process that was killed between its last checkpoint and this
        self._folder.finish(Finished(seconds=self._seconds(), ended=timestamp()))

    def _round(self, number: int) -> list[AnyRecord]:
        """One round, the opening one before it where the rule wants it."""
        records: list[AnyRecord] = []
        clients = self.side.clients_of(number)
        if self.side.needs_opening:
            records += self._exchange(number, clients, measure_only=True)
        return records + self._exchange(number, clients, measure_only=False)

    def _exchange(self, number: int, clients: list[int], *, measure_only: bool) -> list[AnyRecord]:
        seconds = self._recipe.federation.deadline
        until = None if seconds is None else time.monotonic() + seconds
        assignments = self.side.open(number, clients, measure_only=measure_only)
        for reply in self._transport.exchange(assignments, until=until, done=self.side.arrived()):
            ignored = self.side.receive(reply)
            if ignored:
                place = f"{self.method}, round {number}, client {reply.client}"
                _LOG.warning("%s: ignored a reply: %s", place, ignored)
        return self.side.close()

    def _seconds(self) -> float:
        """Of training, all workers together; judging and loading are not counted."""
        rounds = (record for record in read_records(self._folder.metrics) if isinstance(record, ServerRound))
        return sum(record.seconds or 0.0 for record in rounds)
