"""The server's half where clients do not wait for each other: it merges as soon as `buffer` replies are there.

    open       the buffer of the next merge; replies that a killed process kept are taken again, in their order
    hand_out   the newest tensors to every client that is free and has parts left
    receive    one reply; it is folded into the rule's sums, discounted by how old its version is (staleness.py)
    close      the rule makes the next version from what the buffer holds
A client's n-th assignment is part n of its pairs, whatever version it starts from: one pass stays one pass, and its
learning rate follows its own parts. Versions that a client is out with are kept until it is back, also in checkpoints.
FedBuff (Nguyen et al. 2022, arXiv 2106.06639, Algorithm 1) around any rule that reads one client at a time. A part that
is refused or given up fills its place in the buffer without an update, so that the number of merges is known from the
start. Who carries assignments and replies, and the loop around these steps: arrivals.py.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedcmp.aggregation import Aggregator
from fedcmp.config import Recipe
from fedcmp.config.methods import Chosen
from fedcmp.errors import MethodFailed, UserError, counted
from fedcmp.federation.bounds import check_bounds
from fedcmp.federation.kept_arrivals import KeptArrivals
from fedcmp.federation.participation import merges, participants
from fedcmp.federation.replies import Line, client_line, update_of
from fedcmp.federation.staleness import discount, late_update
from fedcmp.runs.records import AnyRecord, ClientRound, ServerRound
from fedcmp.wire.edge_messages import AnyReply
from fedcmp.wire.messages import Assignment, Reply
from fedcmp.wire.naming import Tensors
from fedcmp.wire.payload import decode, encode, forms

_VERSION = "version-"  # of a checkpoint's tensors: those that clients are out with


@dataclass(frozen=True)
class Out:
    """What a client is working on.

    Attributes:
        part: of its pairs, from 1.
        version: merges before the tensors that it started from.
        since: when it began, on the run's clock.
    """

    part: int
    version: int
    since: float


@dataclass
class _Buffer:
    """What has come in since the last merge."""

    lines: list[Line] = field(default_factory=list)
    accepted: list[Line] = field(default_factory=list)
    missing: list[int] = field(default_factory=list)  # clients whose part was given up
    ages: list[int] = field(default_factory=list)  # staleness of the accepted ones
    norms: list[tuple[float, int]] = field(default_factory=list)  # with their clients

    @property
    def settled(self) -> int:
        return len(self.lines) + len(self.missing)


class Buffered:
    """Server of one federated method, asynchronous; a Side of rounds.py, in which a round is a merge.

    Args:
        method: the run's method, for messages.
        chosen: its server rule, local objective and step.
        recipe: buffer, discount, forms of the payload, what a refused update means.
        names: of the clients.
        initial: the tensors that everyone starts from.
        waiting: a folder for the replies since the last merge.
        rate: peak learning rate of its clients.
        heard: called with each reply as it arrives, how many parts are settled, and of how many.

    Attributes:
        states: "global" -> the newest tensors.
        clock: the run's time in seconds, as far as it has come; who carries the replies keeps it.
        rounds: merges of the whole run.
        out: client -> what it is working on.

    Raises:
        ValueError: the rule cannot merge clients of different versions.
    """

    needs_opening = False

    def __init__(
        self,
        method: str,
        chosen: Chosen,
        recipe: Recipe,
        names: Sequence[str],
        initial: Tensors,
        waiting: Path,
        rate: float,
        heard: Callable[[Reply, int, int], None] = lambda _reply, _settled, _parts: None,
    ) -> None:
        federation = recipe.federation
        self.states: dict[str, Tensors] = {"global": initial}
        self.clock = 0.0
        self.rounds = merges(recipe, len(names))
        self.out: dict[int, Out] = {}
        self.aggregator: Aggregator = chosen.create_aggregator()
        if self.aggregator.opening or "extra" in self.aggregator.needs:
            raise ValueError(
                f"{chosen.aggregator} reads what clients measure in one version; it cannot be asynchronous"
            )
        self._method, self._chosen, self._names, self._heard = method, chosen, names, heard
        self._replies = KeptArrivals(waiting)
        self._rate, self._forms = rate, forms(federation.payload, federation.broadcast_payload)
        self._error_feedback, self._exponent = federation.error_feedback, federation.staleness_discount
        self._stop_at_refusal, self._min_clients = federation.on_bad_update == "stop", federation.min_clients
        self._size, self._deadline = federation.replies_per_merge(len(names)), federation.deadline
        share, seed = federation.participation, recipe.run.seed
        self._turns = [frozenset(participants(len(names), share, n + 1, seed)) for n in range(federation.rounds)]
        self._total = sum(map(len, self._turns))
        self._last = dict.fromkeys(range(len(names)), 0)  # client -> the last part that it was given, or skipped
        self._kept: dict[int, int] = {}  # client -> the last part after which it was accepted and kept a state
        self._sent: dict[int, Tensors] = {}  # version -> its tensors as they were sent, while a client is out with it
        self._unsent: set[int] = set()  # clients that are out, as far as this process knows without an assignment
        self._version = self._settled = 0
        self._buffer = _Buffer()

    def clients_of(self, number: int) -> list[int]:
        """Return nobody: clients are asked when they are free (`hand_out`), not together."""
        del number
        return []

    def open(self, number: int, clients: Sequence[int], *, measure_only: bool = False) -> dict[int, Assignment]:
        """Open the buffer of a merge; see ServerSide.open.

        Returns:
            The assignments of clients that are out since before this process began: they are to be sent again.
        """
        del clients, measure_only
        self._version, self._buffer = number - 1, _Buffer()
        self._settled = min((number - 1) * self._size, self._total)
        self.aggregator.begin(self.states["global"])
        for arrived, reply in self._replies.open(self._version, self.states["global"]):
            if arrived > self.clock:  # those that were free by then had been given work
                self._assign(self.clock)
            self.clock = arrived
            if not self._ignored(reply):
                self._take(reply)
        again = {client: self._assignment(client) for client in sorted(self._unsent)}
        self._unsent = set()
        return again

    def hand_out(self, now: float) -> dict[int, Assignment]:
        """Return client -> its assignment, for every client that is free and has parts left; they are out now."""
        fresh = self._assign(now)
        self._unsent -= set(fresh)
        return {client: self._assignment(client) for client in fresh}

    @property
    def is_full(self) -> bool:
        """Whether the buffer can be merged: enough replies are there, or the run's last one."""
        return self._buffer.settled >= self._size or self._settled == self._total

    @property
    def first_deadline(self) -> float | None:
        """When the first assignment that is out is given up; None: never."""
        if self._deadline is None or not self.out:
            return None
        return min(out.since for out in self.out.values()) + self._deadline

    def give_up_late(self) -> None:
        """Give up the assignments that are out for longer than federation.deadline; their clients are free again."""
        late = {
            c for c, out in self.out.items() if self._deadline is not None and out.since + self._deadline <= self.clock
        }
        for client in sorted(late):
            if not self.is_full:
                del self.out[client]
                self._buffer.missing.append(client)
                self._settled += 1

    def arrived(self) -> frozenset[int]:
        """Return nobody: whose reply is there is not asked again anyway."""
        return frozenset()

    def receive(self, reply: AnyReply) -> str:
        """Take one reply that arrived at the time of `clock`; see ServerSide.receive."""
        if not isinstance(reply, Reply):
            return "a sum of several, of clients that do not wait for each other"
        ignored = self._ignored(reply)
        if not ignored:
            self._replies.keep(reply, self.clock)
            self._take(reply)
        return ignored

    def close(self) -> list[AnyRecord]:
        """Merge what the buffer holds; see ServerSide.close."""
        buffer, number = self._buffer, self._version + 1
        missing = [self._names[client] for client in buffer.missing]
        if len(buffer.accepted) < self._min_clients:
            refused = [line["refused"] for line in buffer.lines if "refused" in line]
            told = f"; no reply from {', '.join(missing)}" if missing else ""
            told += f"; refused: {refused[0]}" if refused else ""
            raise UserError(
                f"{self._method}, merge {number}: accepted {len(buffer.accepted)} of "
                f"{counted(buffer.settled, 'part')}, federation.min_clients = {self._min_clients}{told}; nothing is "
                "merged: resume with --resume"
            )
        try:
            self.states = {"global": self.aggregator.finish()}
        except ValueError as error:
            norm, client = max(buffer.norms)
            raise MethodFailed(
                self._method,
                f"{self._method}, merge {number}: {error}; the largest update, of norm {norm:.3g}, is that of client "
                f"{client} ({self._names[client]})",
            ) from error
        for line, weight in zip(buffer.accepted, self.aggregator.last_weights, strict=True):
            line["weight"] = weight
        lines = sorted(buffer.lines, key=lambda line: (line["client"], line["part"]))
        told_missing: Line = {"missing": missing} if missing else {}
        ages = {"staleness": math.fsum(buffer.ages) / len(buffer.ages), "staleness_max": float(max(buffer.ages))}
        merged = ServerRound(
            round=number,
            seconds=math.fsum(line["seconds"] for line in lines),
            bytes_sent=sum(line["bytes_up"] + line["bytes_down"] for line in lines),
            diagnostics=self.aggregator.last_diagnostics | ages,
            clock=self.clock,
            **told_missing,
        )
        self._version = number
        return [*(ClientRound(**line) for line in lines), merged]

    def settled(self) -> None:
        """Forget the replies of the last merge: its checkpoint is on disk."""
        self._replies.settled()

    def memory(self) -> Tensors:
        """Return what the rule remembers, and the versions that clients are out with, for a checkpoint."""
        self._forget_versions()
        versions = {f"{_VERSION}{v}/{name}": t for v, named in self._sent.items() for name, t in named.items()}
        return self.aggregator.state_dict() | versions

    def known(self) -> dict[str, Any]:
        """Return what else a checkpoint holds: the clock, and where every client is."""
        return {
            "kept": {str(client): part for client, part in sorted(self._kept.items())},
            "clock": self.clock,
            "last_parts": {str(client): part for client, part in self._last.items()},
            "out": {str(client): [out.part, out.version, out.since] for client, out in sorted(self.out.items())},
        }

    def restore(self, states: dict[str, Tensors], memory: Tensors, known: Mapping[str, Any]) -> None:
        """Take up a checkpoint; whoever was out is out again."""
        self.states = states
        self.aggregator.load_state_dict({n: t for n, t in memory.items() if not n.startswith(_VERSION)})
        self._sent = {}
        for entry, tensor in memory.items():
            if entry.startswith(_VERSION):
                version, _, name = entry.removeprefix(_VERSION).partition("/")
                self._sent.setdefault(int(version), {})[name] = tensor
        self._kept = {int(client): int(part) for client, part in known["kept"].items()}
        self.clock = float(known["clock"])
        self._last = {int(client): int(part) for client, part in known["last_parts"].items()}
        self.out = {int(client): Out(int(p), int(v), float(at)) for client, (p, v, at) in known["out"].items()}
        self._unsent = set(self.out)

    def _assign(self, now: float) -> list[int]:
        """Send out every client that is free and has a turn left; return who that is."""
        if self.is_full:  # the next version is about to be made
            return []
        fresh = []
        for client in sorted(self._last):
            last = self._last[client]
            if client in self.out or last == len(self._turns):
                continue
            turns = range(last + 1, len(self._turns) + 1)
            part = next((turn for turn in turns if client in self._turns[turn - 1]), None)
            self._last[client] = part or len(self._turns)
            if part is not None:
                self.out[client] = Out(part, self._version, now)
                fresh.append(client)
        if fresh and self._version not in self._sent:
            self._forget_versions()
            self._sent[self._version] = encode(self.states["global"], self._forms.state)
        self._unsent |= set(fresh)
        return fresh

    def _assignment(self, client: int) -> Assignment:
        out = self.out[client]
        return Assignment(
            round=out.part,
            learning_rate=self._rate,
            forms=self._forms,
            objective=self._chosen.objective,
            objective_options=self._chosen.objective_options,
            step=self._chosen.step,
            step_options=self._chosen.step_options,
            extras=sorted(self.aggregator.extras),
            with_second_moment="second_moment" in self.aggregator.needs,
            error_feedback=self._error_feedback,
            continues=self._kept.get(client, 0),
            state=self._sent[out.version],
        )

    def _forget_versions(self) -> None:
        needed = {out.version for out in self.out.values()}
        self._sent = {version: named for version, named in self._sent.items() if version in needed}

    def _ignored(self, reply: Reply) -> str:
        """Return why a reply is not taken; "" where it is."""
        out = self.out.get(reply.client)
        if out is None or reply.measure_only or reply.round != out.part:
            return f"a reply of part {reply.round}, which its client is not asked for"
        return "" if not self.is_full else "the buffer is full"

    def _take(self, reply: Reply) -> None:
        """Fold in a reply that is kept; its client is free."""
        out, now, buffer = self.out.pop(reply.client), self.states["global"], self._buffer
        self._unsent.discard(reply.client)
        self._settled += 1
        self._heard(reply, self._settled, self._total)
        age = self._version - out.version
        sent = self._sent[out.version]
        up, down = reply.num_bytes, sum(tensor.numel() * tensor.element_size() for tensor in sent.values())
        arrived = self.clock - out.since
        line = client_line(reply, self._names[reply.client], arrived) | {"round": self._version + 1}
        line |= {"part": reply.round, "staleness": age, "bytes_up": up, "bytes_down": down, "weight": 0.0}
        buffer.lines.append(line)
        try:
            if age:
                share = discount(age, self._exponent)
                update = late_update(reply, start=decode(sent), now=now, share=share)
            else:
                update = update_of(reply, now)  # as in a synchronous round
            norm = check_bounds(update, now)
            self.aggregator.add(update)
        except ValueError as error:
            self._refuse(reply, error, line)
            return
        buffer.accepted.append(line)
        buffer.ages.append(age)
        buffer.norms.append((norm, reply.client))
        if reply.kept:
            self._kept[reply.client] = reply.round

    def _refuse(self, reply: Reply, error: ValueError, line: Line) -> None:
        """Leave the part out: its client continues from what it knew before."""
        if self._stop_at_refusal:
            self._replies.drop_last(reply)  # the client trains again when the run is resumed
            raise MethodFailed(
                self._method,
                f"{self._method}, merge {line['round']}, client {reply.client} ({self._names[reply.client]}), part "
                f"{reply.round}: {error}; a lower learning rate may help, or resume with federation.on_bad_update = "
                '"drop", without such updates',
            ) from error
        line["refused"] = str(error)
