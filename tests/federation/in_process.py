"""A second transport for the rounds, without processes: it reorders, delays, duplicates and drops replies."""

import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fedcmp.federation.client_folder import ClientFolder
from fedcmp.federation.learner import Work
from fedcmp.runs.records import Evaluation
from fedcmp.simulation.engine import Engine
from fedcmp.wire.messages import Assignment, Reply


@dataclass
class Unruly:
    """Clients of one engine, one after the other, behind a network that does what networks do.

    Attributes:
        engine: model and pairs.
        folders: where the clients keep their states.
        seed: of what goes wrong.
        reorder: replies of a round come in any order.
        duplicate: some replies come twice.
        late: some replies of a round come once more in the next round.
        lost: (round, client) whose reply never comes.
        killed: (round, replies after which the process ends), with InterruptedError.
        asked: (round, client) of every assignment that was carried out.
    """

    engine: Engine
    folders: Path
    seed: int = 0
    reorder: bool = False
    duplicate: bool = False
    late: bool = False
    lost: frozenset[tuple[int, int]] = frozenset()
    killed: tuple[int, int] | None = None
    asked: list[tuple[int, int]] = field(default_factory=list)
    order: list[list[int]] = field(default_factory=list)
    _old: list[Reply] = field(default_factory=list)

    def exchange(
        self, assignments: Mapping[int, Assignment], *, until: float | None, done: Collection[int] = ()
    ) -> Iterator[Reply]:
        del until
        draw = random.Random(f"{self.seed} {next(iter(assignments.values())).round}")
        replies = []
        for client, assignment in assignments.items():
            if client in done:
                continue
            self.asked.append((assignment.round, client))
            folder = ClientFolder(self.folders / f"client-{client}")
            (reply,) = self.engine.client_side.carry_out([Work(client, assignment, folder)])
            if (assignment.round, client) not in self.lost:
                header, tensors = reply.to_tensors()  # as through a wire
                replies.append(Reply.from_tensors(header, tensors))
        if self.duplicate:
            replies += draw.sample(replies, len(replies) // 2)
        if self.late:
            replies, self._old = replies + self._old, list(replies)
        if self.reorder:
            draw.shuffle(replies)
        self.order.append([reply.client for reply in replies])
        for number, reply in enumerate(replies):
            if self.killed == (reply.round, number):
                raise InterruptedError
            yield reply


class Scripted:
    """An evaluator that says what it is to say.

    Args:
        losses: of the rounds.
        killed: rounds whose evaluation ends the process, with InterruptedError.
    """

    def __init__(self, losses: Sequence[float], killed: Collection[int] = ()) -> None:
        self._losses, self._killed = losses, killed

    def references(self, initial: object) -> list[Evaluation]:
        del initial
        return []

    def evaluations(self, states: Mapping[str, object], round_number: int, *, last: bool) -> list[Evaluation]:
        del last
        if round_number in self._killed:
            raise InterruptedError
        loss = self._losses[round_number - 1]
        return [Evaluation.from_line({"round": round_number, "caption_loss": loss + i}) for i in range(len(states))]

    def samples(self, states: object) -> None:
        del states


@dataclass
class VirtualClients:
    """The clients of one engine on a virtual clock (federation.arrivals.Courier).

    Attributes:
        engine: model and pairs.
        folders: where the clients keep their states.
        seconds: of each client for one part.
        killed: replies after which the process ends, with InterruptedError.
        carried_out: (client, part) of every assignment, as sent.
        arrived: (client, part) of every reply, as it arrived.
    """

    engine: Engine
    folders: Path
    seconds: list[float]
    killed: int | None = None
    carried_out: list[tuple[int, int]] = field(default_factory=list)
    arrived: list[tuple[int, int]] = field(default_factory=list)
    _clock: float = 0.0
    _due: dict[int, tuple[float, Assignment]] = field(default_factory=dict)

    def start(self, seconds: float) -> None:
        self._clock = seconds

    def now(self) -> float:
        return self._clock

    def send(self, client: int, assignment: Assignment, *, at: float) -> None:
        self._due[client] = (at + self.seconds[client], assignment)

    def next_reply(self, *, until: float | None) -> Reply | None:
        arrival, client = min((at, client) for client, (at, _) in self._due.items()) if self._due else (None, -1)
        if arrival is None or (until is not None and arrival > max(until, self._clock)):
            assert until is not None
            self._clock = max(self._clock, until)
            return None
        if self.killed is not None and len(self.arrived) == self.killed:
            raise InterruptedError
        self._clock = max(self._clock, arrival)
        _, assignment = self._due.pop(client)
        self.carried_out.append((client, assignment.round))
        folder = ClientFolder(self.folders / f"client-{client}")
        (reply,) = self.engine.client_side.carry_out([Work(client, assignment, folder)])
        self.arrived.append((client, assignment.round))
        return Reply.from_tensors(*reply.to_tensors())


class Unmeasured:
    """An evaluator that measures nothing."""

    def references(self, initial: object) -> list[Evaluation]:
        del initial
        return []

    def evaluations(self, states: object, round_number: int, *, last: bool) -> list[Evaluation]:
        del states, last
        return [Evaluation.from_line({"round": round_number})]

    def samples(self, states: object) -> None:
        del states
