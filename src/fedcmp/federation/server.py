"""The server's half of a round: open it, receive replies in any order, refuse bad ones, close it.

    open      Assignments for the clients of the round, all with the same tensors
    receive   one Reply; it is folded into the rule's sums if all clients before it are settled, else it waits on disk
    close     what still waits is folded in, clients that never replied are left out; the rule makes the next tensors

Replies are folded in by the clients' numbers, whatever the order in which they arrive: the result has the same bits,
and one reply at a time is in memory, however many clients there are. Knows no pool and no pairs.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedcmp.aggregation import Aggregator, ClientUpdate
from fedcmp.config import Recipe
from fedcmp.config.methods import Chosen
from fedcmp.errors import UserError, counted
from fedcmp.federation.participation import participants
from fedcmp.runs.records import AnyRecord, ClientRound, OpeningRound, ServerRound
from fedcmp.wire.files import park_message, read_message
from fedcmp.wire.messages import Assignment, Reply
from fedcmp.wire.naming import Tensors
from fedcmp.wire.payload import decode, encode, forms, moved

Line = dict[str, Any]  # a client's record while its round is open


@dataclass
class _Open:
    """A round under way."""

    number: int
    assignment: Assignment
    clients: list[int]
    members: frozenset[int]  # the same, looked up once per reply
    next: int = 0  # position of the client whose reply is folded in next
    arrived: set[int] = field(default_factory=set)
    waiting: set[int] = field(default_factory=set)
    lines: dict[int, Line] = field(default_factory=dict)
    accepted: list[int] = field(default_factory=list)
    kept: dict[int, bool] = field(default_factory=dict)
    seconds: float = 0.0
    bytes_sent: int = 0


class ServerSide:
    """Server of one federated method.

    Args:
        method: the run's method, for messages.
        chosen: its server rule and local objective.
        recipe: forms of the payload, what a refused update means, learning rate.
        names: of the clients.
        initial: the tensors that everyone starts from.
        waiting: a folder for replies that wait for their turn.
        heard: called with each reply as it arrives: client, clients in the round, loss (opening rounds have none).
    """

    def __init__(
        self,
        method: str,
        chosen: Chosen,
        recipe: Recipe,
        names: Sequence[str],
        initial: Tensors,
        waiting: Path,
        heard: Callable[[Reply, int], None] = lambda _reply, _clients: None,
    ) -> None:
        federation = recipe.federation
        self.states: dict[str, Tensors] = {"global": initial}
        self.aggregator: Aggregator = chosen.create_aggregator()
        self._method, self._chosen, self._names, self._waiting, self._heard = method, chosen, names, waiting, heard
        self._rate = recipe.learning_rate(method)
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
        """Open a round; one that was left open is forgotten.

        Args:
            number: of the round, from 1.
            clients: who takes part, ascending.
            measure_only: an opening round.

        Returns:
            Client -> its assignment; all share the same tensors.
        """
        shared = self.states["global"]
        assignment = Assignment(
            round=number,
            learning_rate=self._rate,
            forms=self._forms,
            objective=self._chosen.objective,
            objective_options=self._chosen.objective_options,
            measure_only=measure_only,
            with_second_moment="second_moment" in self.aggregator.needs,
            error_feedback=self._error_feedback,
            state=encode(shared, self._forms.state),
            public=self.aggregator.broadcast(shared),
        )
        self.aggregator.begin(shared)
        shutil.rmtree(self._waiting, ignore_errors=True)
        self._open = _Open(number, assignment, sorted(clients), frozenset(clients))
        return {client: assignment.continuing(self._kept.get(client, 0)) for client in clients}

    def receive(self, reply: Reply) -> str:
        """Take one reply.

        Returns:
            "" where it is taken, else why it is ignored: it belongs to another round, is not asked for, or is there
            already.

        Raises:
            UserError: the rule refuses it, and the recipe says to stop.
        """
        now = self._now()
        if (reply.round, reply.measure_only) != (now.number, now.assignment.measure_only):
            return f"a reply of round {reply.round}, which is closed"
        if reply.client not in now.members:
            return "its client has no part in the round"
        if reply.client in now.arrived:
            return "its client has replied already"
        now.arrived.add(reply.client)
        self._heard(reply, len(now.clients))
        if reply.client == now.clients[now.next]:
            self._fold(reply)
            self._fold_waiting()
        else:
            self._waiting.mkdir(parents=True, exist_ok=True)
            park_message(self._file(reply.client), *reply.to_tensors())
            now.waiting.add(reply.client)
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
        if len(now.accepted) < self._min_clients:
            raise UserError(self._too_few(now, missing))
        try:
            self.states = {"global": self.aggregator.finish()}
        except ValueError as error:
            raise UserError(f"{self._method}, round {now.number}: {error}") from error
        for client, weight in zip(now.accepted, self.aggregator.last_weights, strict=True):
            now.lines[client]["weight"] = weight
            if now.kept[client]:
                self._kept[client] = now.number
        self._open = None
        shutil.rmtree(self._waiting, ignore_errors=True)
        if now.assignment.measure_only:  # it has no losses and no client weights
            return [OpeningRound(round=now.number, seconds=now.seconds, bytes_sent=now.bytes_sent)]
        clients = [ClientRound(**now.lines[client]) for client in sorted(now.lines)]
        told: Line = {"missing": [self._names[client] for client in missing]} if missing else {}
        last = ServerRound(
            round=now.number,
            seconds=now.seconds,
            bytes_sent=now.bytes_sent,
            diagnostics=self.aggregator.last_diagnostics,
            **told,
        )
        return [*clients, last]

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

    def _fold_waiting(self, *, past_missing: bool = False) -> None:
        now = self._now()
        while now.next < len(now.clients):
            client = now.clients[now.next]
            if client in now.waiting:
                now.waiting.remove(client)
                reply = Reply.from_tensors(*read_message(self._file(client)))
                self._file(client).unlink()
                self._fold(reply)
            elif past_missing:
                now.next += 1
            else:
                return

    def _fold(self, reply: Reply) -> None:
        now = self._now()
        now.next += 1
        line = client_line(reply, self._names[reply.client])
        up, down = reply.num_bytes, now.assignment.num_bytes
        line |= {"bytes_up": up, "bytes_down": down, "weight": 0.0}
        now.lines[reply.client] = line
        now.seconds += reply.seconds
        now.bytes_sent += up + down
        try:
            self.aggregator.add(_update_of(reply, self.states["global"]))
        except ValueError as error:
            self._refuse(reply.client, error, line)
            return
        now.accepted.append(reply.client)
        now.kept[reply.client] = reply.kept

    def _refuse(self, client: int, error: ValueError, line: Line) -> None:
        """Leave the client out: it continues from what it knew before, as if it had been absent."""
        if self._stop_at_refusal:
            raise UserError(
                f"{self._method}, round {self._now().number}, client {client} ({self._names[client]}): {error}; a "
                'lower learning rate may help, or set federation.on_bad_update = "drop" to go on without such a client'
            ) from error
        line["refused"] = str(error)

    def _too_few(self, now: _Open, missing: list[int]) -> str:
        refused = [line["refused"] for line in now.lines.values() if "refused" in line]
        told = f"; no reply from {', '.join(self._names[client] for client in missing)}" if missing else ""
        told += f"; refused: {refused[0]}" if refused else ""
        return (
            f"{self._method}, round {now.number}: accepted {len(now.accepted)} of "
            f"{counted(len(now.clients), 'client')}, federation.min_clients = {self._min_clients}{told}; "
            "the round is not closed: resume with --resume"
        )

    def _file(self, client: int) -> Path:
        return self._waiting / f"client-{client}.safetensors"


def client_line(reply: Reply, name: str) -> Line:
    """A client's record of one round, before the server has weighed it."""
    return {
        "kind": "client",
        "round": reply.round,
        "client": max(reply.client, 0),
        "client_name": name,
        "num_examples": reply.num_examples,
        "alignment_error": reply.alignment_error,
        **reply.figures,
        "bytes_up": 0,
        "bytes_down": 0,
        "seconds": reply.seconds,
    }


def _update_of(reply: Reply, before: Tensors) -> ClientUpdate:
    """What a client sent, decoded; ValueError where it does not fit the server's tensors."""
    return ClientUpdate(
        state=moved(before, decode(reply.update)) if reply.update else reply.state,
        num_examples=reply.num_examples,
        alignment_error=reply.alignment_error,
        second_moment=decode(reply.second_moment) or None,
        extra={label: decode(named) for label, named in reply.extra.items()} or None,
    )
