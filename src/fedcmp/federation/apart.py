"""Learners without a server: local-only clients, and the centralized learners on pooled pairs.

The same three steps as a server's (server.py), so that all methods run through the same rounds. Nothing is sent but the
initial tensors; each learner continues from its own state, and the run only looks at what it has learned.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedcmp.config.methods import Chosen, choose_alone
from fedcmp.errors import MethodFailed, UserError
from fedcmp.federation.kept_replies import KeptReplies
from fedcmp.federation.replies import Clock, Line, client_line
from fedcmp.preparation.batches import pooled_client
from fedcmp.references import reference_of
from fedcmp.runs.records import AnyRecord, ClientRound, ServerRound
from fedcmp.wire.edge_messages import AnyReply
from fedcmp.wire.messages import Assignment, Reply
from fedcmp.wire.naming import Tensors
from fedcmp.wire.payload import forms


class Apart:
    """K learners that never meet, or one on the union of the clients' pairs.

    Args:
        method: one without a server.
        names: of the clients.
        initial: the tensors that everyone starts from.
        rate: peak learning rate of the learners.
        chosen: their step; None: AdamW's.
        heard: called with each reply as it arrives and the number of learners.
        waiting: a folder for the replies of the round under way; None: they are not kept.
    """

    needs_opening = False

    def __init__(
        self,
        method: str,
        names: Sequence[str],
        initial: Tensors,
        rate: float,
        chosen: Chosen | None = None,
        heard: Callable[[Reply, int], None] = lambda _reply, _learners: None,
        waiting: Path | None = None,
    ) -> None:
        self._method, self._names, self._initial, self._heard = method, names, initial, heard
        self._rate, self._chosen = rate, chosen or choose_alone(method)
        is_local = reference_of(method) == "local"
        learners = [f"client-{client}" for client in range(len(names))] if is_local else ["global"]
        self.states: dict[str, Tensors] = dict.fromkeys(learners, initial)
        self._learners = list(range(len(names))) if is_local else [pooled_client(method)]
        self._number, self._clients = 0, self._learners
        self._lines: dict[int, Line] = {}
        self._clock = Clock()
        self._replies = KeptReplies(waiting)

    def clients_of(self, number: int) -> list[int]:
        """Return all learners."""
        del number
        return self._learners

    def open(self, number: int, clients: Sequence[int], *, measure_only: bool = False) -> dict[int, Assignment]:
        """Open a round: the initial tensors at first, afterwards each learner's own. See ServerSide.open."""
        del measure_only
        self._number, self._clients, self._lines, self._clock = number, list(clients), {}, Clock()
        assignment = Assignment(
            round=number,
            learning_rate=self._rate,
            forms=forms("float32"),
            step=self._chosen.step,
            step_options=self._chosen.step_options,
            continues=number - 1,
            keep_optimizer=True,
            state=self._initial if number == 1 else {},
        )
        assignments = dict.fromkeys(clients, assignment)
        for reply, arrived in self._replies.open(assignments):
            if isinstance(reply, Reply):
                self._take(reply, arrived)
        return assignments

    def arrived(self) -> frozenset[int]:
        """Return the learners whose reply to the open round is there."""
        return frozenset(self._lines)

    def receive(self, reply: AnyReply) -> str:
        """Take one learner's reply; see ServerSide.receive.

        Raises:
            MethodFailed: what it has learned is not finite.
        """
        if not isinstance(reply, Reply):
            return "a sum of several, of learners that have no server"
        if reply.round != self._number or reply.client not in self._clients:
            return f"a reply of round {reply.round}, which is not open"
        if reply.client in self._lines:
            return "its client has replied already"
        if not all(bool(tensor.isfinite().all()) for tensor in reply.state.values()):
            raise MethodFailed(
                self._method,
                f"{self._method}, round {self._number}: what was trained is not finite; lower the learning rate",
            )
        arrived = self._clock.seconds
        self._replies.keep(reply, arrived)
        self._take(reply, arrived)
        return ""

    def _take(self, reply: Reply, arrived: float | None) -> None:
        self._heard(reply, len(self._clients))
        pooled = reply.client < 0
        self.states["global" if pooled else f"client-{reply.client}"] = reply.state
        name = "all clients' pairs" if pooled else self._names[reply.client]
        self._lines[reply.client] = client_line(reply, name, arrived)

    def close(self) -> list[AnyRecord]:
        """Close the round; see ServerSide.close.

        Raises:
            UserError: a learner has not replied.
        """
        missing = [client for client in self._clients if client not in self._lines]
        if missing:
            raise UserError(f"{self._method}, round {self._number}: no reply from learner {missing[0]}; use --resume")
        clients = [ClientRound(**self._lines[client]) for client in self._clients]
        seconds = sum(self._lines[client]["seconds"] for client in self._clients)
        last = ServerRound(
            round=self._number,
            seconds=seconds,
            bytes_sent=0,
            diagnostics={},
            opened=self._clock.opened,
            waited=self._clock.seconds,
        )
        return [*clients, last]

    def settled(self) -> None:
        """Forget the replies of the last round; see ServerSide.settled."""
        self._replies.settled()

    def memory(self) -> Tensors:
        """Return nothing: there is no server that could remember."""
        return {}

    def known(self) -> dict[str, Any]:
        """Return nothing: the rounds say where each learner continues."""
        return {}

    def restore(self, states: dict[str, Tensors], memory: Tensors, known: Mapping[str, Any]) -> None:
        """Take up a checkpoint."""
        del memory, known
        self.states = states
