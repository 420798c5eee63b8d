"""The server's half of a round: open it, receive replies in any order, refuse bad ones, close it.

    open      Assignments for the clients of the round, all with the same tensors
    receive   one Reply, or an edge's sum of several: folded into the rule's sums if all clients before it are settled,
              else it waits
    close     what still waits is folded in, clients that never replied are left out; the rule makes the next tensors

Replies are folded in by the clients' numbers, whatever the order in which they arrive: the result has the same bits,
and one reply at a time is in memory, however many clients there are. All of them are kept on disk until the round's
checkpoint is (kept_replies.py). Knows no pool and no pairs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedcmp.aggregation import Aggregator
from fedcmp.config import Recipe
from fedcmp.config.methods import Chosen
from fedcmp.errors import MethodFailed, UserError, counted
from fedcmp.federation.kept_replies import KeptReplies
from fedcmp.federation.participation import participants
from fedcmp.federation.replies import Clock, Line, bytes_beyond, fold_in, lines_of
from fedcmp.runs.records import AnyRecord, ClientRound, OpeningRound, ServerRound
from fedcmp.wire.edge_messages import AnyReply, parts_of
from fedcmp.wire.messages import Assignment, Reply
from fedcmp.wire.naming import Tensors
from fedcmp.wire.payload import encode, forms


@dataclass
class _Open:
    """A round under way."""

    number: int
    assignment: Assignment
    clients: list[int]
    members: frozenset[int]  # the same, looked up once per reply
    clock: Clock = field(default_factory=Clock)
    next: int = 0  # position of the client whose reply is folded in next
    arrived: dict[int, float | None] = field(default_factory=dict)  # client -> seconds after the opening
    waiting: set[int] = field(default_factory=set)
    lines: dict[int, Line] = field(default_factory=dict)
    keeping: set[int] = field(default_factory=set)  # clients that keep a state of this round
    norms: dict[int, float] = field(default_factory=dict)  # of the accepted updates, in the order of folding in
    seconds: float = 0.0
    bytes_sent: int = 0


class ServerSide:
    """Server of one federated method.

    Args:
        method: the run's method, for messages.
        chosen: its server rule, local objective and step.
        recipe: forms of the payload, what a refused update means.
        names: of the clients.
        initial: the tensors that everyone starts from.
        rate: peak learning rate of its clients.
        waiting: a folder for the replies of the round under way.
        heard: called with each client's reply as it arrives, and the clients in the round; tensors may be gone.
    """

    def __init__(
        self,
        method: str,
        chosen: Chosen,
        recipe: Recipe,
        names: Sequence[str],
        initial: Tensors,
        waiting: Path,
        rate: float,
        heard: Callable[[Reply, int], None] = lambda _reply, _clients: None,
    ) -> None:
        federation = recipe.federation
        self.states: dict[str, Tensors] = {"global": initial}
        self.aggregator: Aggregator = chosen.create_aggregator()
        self._method, self._chosen, self._names, self._heard = method, chosen, names, heard
        self._replies = KeptReplies(waiting)
        self._rate = rate
        self._forms = forms(federation.payload, federation.broadcast_payload)
        self._error_feedback = federation.error_feedback
        self._share, self._seed = federation.participation, recipe.run.seed
        self._stop_at_refusal, self._min_clients = federation.on_bad_update == "stop", federation.min_clients
        self._kept: dict[int, int] = {}  # client -> the last round in which it was accepted and kept a state
        self._open: _Open | None = None

    def clients_of(self, number: int) -> list[int]:
        """Return the clients whose turn it is; an absent client's part of its pairs is skipped."""
        return participants(len(self._names), self._share, number, self._seed)

    @property
    def needs_opening(self) -> bool:
        """Whether a round that only measures comes first."""
        return self.aggregator.opening and self.aggregator.round == 0

    def open(self, number: int, clients: Sequence[int], *, measure_only: bool = False) -> dict[int, Assignment]:
        """Open a round; one that was left open is forgotten. Replies to it that a killed process kept are taken.

        Args:
            number: of the round, from 1.
            clients: who takes part, ascending.
            measure_only: an opening round.

        Returns:
            Client -> its assignment; all share the same tensors.

        Raises:
            UserError: as `receive`.
        """
        shared = self.states["global"]
        assignment = Assignment(
            round=number,
            learning_rate=self._rate,
            forms=self._forms,
            objective=self._chosen.objective,
            objective_options=self._chosen.objective_options,
            step=self._chosen.step,
            step_options=self._chosen.step_options,
            extras=sorted(self.aggregator.extras),
            measure_only=measure_only,
            with_second_moment="second_moment" in self.aggregator.needs,
            error_feedback=self._error_feedback,
            state=encode(shared, self._forms.state),
            public=self.aggregator.broadcast(shared),
        )
        self.aggregator.begin(shared)
        self._open = _Open(number, assignment, sorted(clients), frozenset(clients))
        assignments = {client: assignment.continuing(self._kept.get(client, 0)) for client in clients}
        for reply, arrived in self._replies.open(assignments):
            self._take(reply, arrived)
        return assignments

    def arrived(self) -> frozenset[int]:
        """Return the clients whose reply to the open round is there."""
        return frozenset(self._now().arrived)

    def receive(self, reply: AnyReply) -> str:
        """Take one reply, or a sum of several.

        Returns:
            "" where it is taken, else why it is ignored: it belongs to another round, is not asked for, or is there
            already.

        Raises:
            UserError: the rule refuses it, and the recipe says to stop.
        """
        now = self._now()
        if (reply.round, reply.measure_only) != (now.number, now.assignment.measure_only):
            return f"a reply of round {reply.round}, which is closed"
        clients = {part.client for part in parts_of(reply)}
        if not clients <= now.members:
            return "its client has no part in the round"
        if not clients.isdisjoint(now.arrived):
            return "its client has replied already"
        arrived = now.clock.seconds
        self._replies.keep(reply, arrived)
        self._take(reply, arrived)
        return ""

    def close(self) -> list[AnyRecord]:
        """Close the round with the replies that have arrived.

        Returns:
            Records for metrics.jsonl: one per client in the clients' order, then the round's (an opening round has only
            its own).

        Raises:
            UserError: fewer accepted replies than federation.min_clients, or the rule cannot merge them.
        """
        now = self._now()
        missing = [client for client in now.clients if client not in now.arrived]
        self._fold_waiting(past_missing=True)
        if len(now.norms) < self._min_clients:
            raise UserError(self._too_few(now, missing))
        try:
            self.states = {"global": self.aggregator.finish()}
        except ValueError as error:
            largest = max(now.norms, key=lambda client: now.norms[client])
            raise MethodFailed(
                self._method,
                f"{self._method}, round {now.number}: {error}; the largest update, of norm {now.norms[largest]:.3g}, "
                f"is that of client {largest} ({self._names[largest]})",
            ) from error
        weights = self.aggregator.last_weights  # none where only a sum of several is known
        for position, client in enumerate(now.norms):
            now.lines[client]["weight"] = weights[position] if weights else None
        self._kept |= dict.fromkeys(now.keeping & now.norms.keys(), now.number)
        self._open = None
        if now.assignment.measure_only:  # it has no losses and no client weights
            return [OpeningRound(round=now.number, seconds=now.seconds, bytes_sent=now.bytes_sent)]
        clients = [ClientRound(**now.lines[client]) for client in sorted(now.lines)]
        told: Line = {"missing": [self._names[client] for client in missing]} if missing else {}
        last = ServerRound(
            round=now.number,
            seconds=now.seconds,
            bytes_sent=now.bytes_sent,
            diagnostics=self.aggregator.last_diagnostics,
            opened=now.clock.opened,
            waited=now.clock.seconds,
            **told,
        )
        return [*clients, last]

    def settled(self) -> None:
        """Forget the replies of the last round: its checkpoint is on disk."""
        self._replies.settled()

    def memory(self) -> Tensors:
        """Return what the rule remembers, for a checkpoint."""
        return self.aggregator.state_dict()

    def known(self) -> dict[str, Any]:
        """Return what else a checkpoint holds: of which round each client is to continue."""
        return {"kept": {str(client): number for client, number in sorted(self._kept.items())}}

    def restore(self, states: dict[str, Tensors], memory: Tensors, known: Mapping[str, Any]) -> None:
        """Take up a checkpoint."""
        self.states = states
        self.aggregator.load_state_dict(memory)
        self._kept = {int(client): int(number) for client, number in known.get("kept", {}).items()}

    def _now(self) -> _Open:
        if self._open is None:
            raise RuntimeError("no round is open: call open() first")
        return self._open

    def _take(self, reply: AnyReply, arrived: float | None) -> None:
        """Fold a reply that is kept in, or let it wait for its turn: a sum's is that of its first client."""
        now = self._now()
        for part in parts_of(reply):
            now.arrived[part.client] = arrived
            self._heard(part, len(now.clients))
        if reply.client == now.clients[now.next]:
            self._fold(reply)
            self._fold_waiting()
        else:
            now.waiting.add(reply.client)

    def _fold_waiting(self, *, past_missing: bool = False) -> None:
        now = self._now()
        while now.next < len(now.clients):
            client = now.clients[now.next]
            if client in now.waiting:
                now.waiting.remove(client)
                self._fold(self._replies.read(client))
            elif past_missing or client in now.arrived:  # beneath an edge whose sum is in
                now.next += 1
            else:
                return

    def _fold(self, reply: AnyReply) -> None:
        now = self._now()
        now.next += 1
        lines = lines_of(reply, self._names, now.arrived[reply.client], now.assignment.num_bytes)
        now.lines |= lines
        now.seconds += sum(part.seconds for part in parts_of(reply))
        now.bytes_sent += sum(line["bytes_up"] + line["bytes_down"] for line in lines.values()) + bytes_beyond(reply)
        try:
            now.norms |= fold_in(self.aggregator, reply, self.states["global"])
        except ValueError as error:
            for line in lines.values():
                line.setdefault("refused", str(error))
        now.keeping |= {part.client for part in parts_of(reply) if part.kept}
        refused = [client for client in lines if "refused" in lines[client]]
        if refused and self._stop_at_refusal:  # else it continues from what it knew before, as if it had been absent
            self._replies.drop(reply.client)  # the client trains again when the run is resumed
            raise MethodFailed(
                self._method,
                f"{self._method}, round {now.number}, client {refused[0]} ({self._names[refused[0]]}): "
                f"{lines[refused[0]]['refused']}; a lower learning rate may help, or resume with "
                'federation.on_bad_update = "drop", without such clients',
            )

    def _too_few(self, now: _Open, missing: list[int]) -> str:
        refused = [line["refused"] for line in now.lines.values() if "refused" in line]
        told = f"; no reply from {', '.join(self._names[client] for client in missing)}" if missing else ""
        told += f"; refused: {refused[0]}" if refused else ""
        return (
            f"{self._method}, round {now.number}: accepted {len(now.norms)} of "
            f"{counted(len(now.clients), 'client')}, federation.min_clients = {self._min_clients}{told}; "
            "the round is not closed: resume with --resume"
        )
