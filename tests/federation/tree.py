"""A third transport for the rounds: clients of one engine beneath edge servers, and some that reply to the server."""

import json
import random
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from fedcmp.federation.client_folder import ClientFolder
from fedcmp.federation.edge import EdgeSide, delegations
from fedcmp.federation.learner import Work
from fedcmp.federation.server import ServerSide
from fedcmp.simulation.engine import Engine
from fedcmp.wire.edge_messages import AnyReply, Delegation, PartialSum
from fedcmp.wire.messages import Assignment, Reply


@dataclass
class Tree:
    """Every message goes through its wire form; an edge is a new object in every round: it keeps nothing.

    Attributes:
        engine: model and pairs.
        side: the server above.
        edges: edge -> the clients beneath it; all others reply to the server.
        folders: where clients and edges keep what they keep.
        method: of the run.
        seed: of the order in which replies and sums come, and of which sums come twice.
        lost: (round, client) whose reply never comes.
        spoiled: (round, client) whose update is too large to be taken.
        forged: (round, edge) whose sum claims more examples than its sites have.
        killed: (round, edge) that dies, with InterruptedError, when half of its sites have replied.
        stopped: (round, messages after which the server's process ends), with InterruptedError.
        asked: (round, client) of every assignment that was carried out.
        received: what came to the server, in order.
    """

    engine: Engine
    side: ServerSide
    edges: dict[str, list[int]]
    folders: Path
    method: str
    seed: int = 0
    lost: frozenset[tuple[int, int]] = frozenset()
    spoiled: frozenset[tuple[int, int]] = frozenset()
    forged: frozenset[tuple[int, str]] = frozenset()
    killed: tuple[int, str] | None = None
    stopped: tuple[int, int] | None = None
    asked: list[tuple[int, int]] = field(default_factory=list)
    received: list[AnyReply] = field(default_factory=list)

    def exchange(
        self, assignments: Mapping[int, Assignment], *, until: float | None, done: Collection[int] = ()
    ) -> Iterator[AnyReply]:
        del until
        wanted = {client: assignment for client, assignment in assignments.items() if client not in done}
        number = next(iter(assignments.values())).round
        draw = random.Random(f"{self.seed} {number}")
        beneath = {client for clients in self.edges.values() for client in clients}
        replies: list[AnyReply] = [r for c in wanted if c not in beneath and (r := self.reply(c, wanted[c]))]
        for edge, delegation in delegations(wanted, self.edges, self.side.aggregator.public()).items():
            header, tensors = delegation.to_tensors()
            found = self._sum(edge, Delegation.from_tensors(json.loads(json.dumps(header)), tensors), draw)
            if found is not None:
                header, tensors = found.to_tensors()
                replies.append(PartialSum.from_tensors(json.loads(json.dumps(header)), tensors))
        replies += draw.sample(replies, len(replies) // 2)
        draw.shuffle(replies)
        for count, reply in enumerate(replies):
            if self.stopped == (number, count):
                raise InterruptedError
            self.received.append(reply)
            yield reply

    def _sum(self, edge: str, delegation: Delegation, draw: random.Random) -> PartialSum | None:
        rule = self.engine.recipe.chosen(self.method).create_aggregator()
        own = EdgeSide(rule, delegation, self.folders / edge)
        number = delegation.assignment.round
        order = [client for client in own.assignments if client not in own.arrived()]
        draw.shuffle(order)
        for count, client in enumerate(order):
            if self.killed == (number, edge) and count == len(order) // 2:
                raise InterruptedError
            reply = self.reply(client, own.assignments[client])
            if reply is not None:
                assert own.receive(reply) == ""
                assert own.receive(reply) == "its client has replied already"
        found = own.close()
        own.settled()
        if found is not None and (number, edge) in self.forged:
            found = replace(found, sums={**found.sums, "examples": found.sums["examples"] + 1000})
        return found

    def reply(self, client: int, assignment: Assignment) -> Reply | None:
        """Carry out one assignment."""
        self.asked.append((assignment.round, client))
        folder = ClientFolder(self.folders / f"client-{client}")
        (reply,) = self.engine.client_side.carry_out([Work(client, assignment, folder)])
        if (assignment.round, client) in self.spoiled:
            reply = replace(reply, state={name: tensor * 1e30 for name, tensor in reply.state.items()})
        return None if (assignment.round, client) in self.lost else Reply.from_tensors(*reply.to_tensors())
