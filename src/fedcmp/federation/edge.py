"""An edge server's half of a round: its sites' replies become one sum, which is all that goes on to the server above.

    delegations   the server's assignments, by edge: one message for all sites of an edge
    EdgeSide      towards its sites a server: assignments out, replies in; towards the server a client: one PartialSum

A tree of edges ends with the flat result, to the rounding of float64 sums, for rules that add up in one exchange: the
sums are those of `contribution`, which depend on a client's update and on what the server broadcasts, no more. What
the server keeps of every client (where it continues, its line in the records) is known by accounts; so an edge keeps
nothing from round to round. Knows no transport.
"""

import logging
from collections.abc import Collection, Mapping
from pathlib import Path

from fedcmp.aggregation import Aggregator, Public
from fedcmp.errors import UserError
from fedcmp.federation.bounds import check_bounds
from fedcmp.federation.kept_replies import KeptReplies
from fedcmp.federation.replies import Clock, update_of
from fedcmp.wire.edge_messages import Account, Delegation, PartialSum
from fedcmp.wire.messages import Assignment, Reply
from fedcmp.wire.naming import Tensors

_LOG = logging.getLogger(__name__)


def check_sums(method: str, rule: Aggregator) -> None:
    """Refuse a rule that edges cannot sum for.

    Args:
        method: the run's, for the message.
        rule: its server rule.

    Raises:
        UserError: the rule does not add up in one exchange.
    """
    if rule.adds_up != "in one exchange":
        why = "adds up in two exchanges only" if rule.adds_up == "in two exchanges" else "does not add up over clients"
        raise UserError(
            f"run.methods: {method} {why}, so edge servers cannot sum for it; leave it out, or let its sites reply to "
            "the server itself"
        )


def delegations(
    assignments: Mapping[int, Assignment], edges: Mapping[str, Collection[int]], public: Public
) -> dict[str, Delegation]:
    """Return one message for each edge that has sites to ask.

    Args:
        assignments: client -> its assignment; all hold the same tensors.
        edges: edge -> the clients beneath it.
        public: what contributions to the open round depend on (`Aggregator.public`).
    """
    found = {}
    for edge, beneath in edges.items():
        continues = {client: assignments[client].continues for client in sorted(beneath) if client in assignments}
        if not continues:
            continue
        shared = assignments[next(iter(continues))].continuing(0)
        found[edge] = Delegation(
            shared,
            continues,
            public.round,
            start={} if shared.forms.state == "float32" else dict(public.state),
            exact={label: dict(named) for label, named in public.tensors.items() if named},
            scalars=public.scalars,
        )
    return found


class EdgeSide:
    """One round of an edge.

    Replies stay on disk until all are there or time is up; then they are folded in by the clients' numbers, one in
    memory at a time, so that the sum has the same bits in whatever order they came.

    Args:
        rule: the method's server rule, with its options; nothing that it remembers plays a part.
        delegation: the round's work.
        waiting: a folder for the replies; those that a killed process kept there are taken.

    Raises:
        ValueError: the rule does not add up in one exchange.
    """

    def __init__(self, rule: Aggregator, delegation: Delegation, waiting: Path) -> None:
        if rule.adds_up != "in one exchange":
            raise ValueError(f"{type(rule).__name__} does not add up in one exchange")
        shared = delegation.assignment
        self._rule, self._given = rule, delegation
        # float32 tensors are sent as they are: they are the server's own
        start = delegation.start or shared.state
        self._public = Public(start, delegation.rule_round, delegation.exact, delegation.scalars)
        self.assignments = {client: shared.continuing(number) for client, number in delegation.continues.items()}
        self._clock = Clock()
        self._replies = KeptReplies(waiting)
        self._arrived: dict[int, float | None] = {}
        for reply, arrived in self._replies.open(self.assignments):
            self._arrived[reply.client] = arrived

    def arrived(self) -> frozenset[int]:
        """Return the clients whose reply is there."""
        return frozenset(self._arrived)

    def receive(self, reply: Reply) -> str:
        """Take one reply.

        Returns:
            "" where it is taken, else why it is ignored.
        """
        shared = self._given.assignment
        if (reply.round, reply.measure_only) != (shared.round, shared.measure_only):
            return f"a reply of round {reply.round}, which is closed"
        if reply.client not in self.assignments:
            return "its client has no part in the round"
        if reply.client in self._arrived:
            return "its client has replied already"
        arrived = self._clock.seconds
        self._replies.keep(reply, arrived)
        self._arrived[reply.client] = arrived
        return ""

    def close(self) -> PartialSum | None:
        """Return the sum of what has arrived, None where nothing has; the replies stay until `settled`."""
        accounts: list[Account] = []
        sums: Tensors = {}
        for client in sorted(self._arrived):
            try:
                reply = self._replies.read(client)
            except UserError as error:
                _LOG.warning("%s", error)
                continue
            assert isinstance(reply, Reply)  # nothing else is kept
            account, contribution = self._contribution(reply)
            accounts.append(account)
            if contribution and sums:
                self._rule.combine(sums, contribution)
            elif contribution:
                sums = contribution
        if not accounts:
            return None
        shared = self._given.assignment
        return PartialSum(shared.round, tuple(accounts), sums, shared.measure_only, self._given.num_bytes)

    def settled(self) -> None:
        """Forget the replies: the server has the sum."""
        self._replies.settled()

    def _contribution(self, reply: Reply) -> tuple[Account, Tensors]:
        """Return a site's account, and what it adds to the sum: nothing where it is refused."""
        norm, refused, contribution = None, "", Tensors()
        try:
            update = update_of(reply, self._public.state)
            norm = check_bounds(update, self._public.state)
            contribution = self._rule.contribution(update, self._public)
        except ValueError as error:
            norm, refused = None, str(error)
        figures = Reply(
            round=reply.round,
            client=reply.client,
            num_examples=reply.num_examples,
            alignment_error=reply.alignment_error,
            measure_only=reply.measure_only,
            figures=reply.figures,
            seconds=reply.seconds,
            kept=reply.kept,
        )
        down = self._given.assignment.num_bytes
        account = Account(figures, reply.num_bytes, down, self._arrived[reply.client], norm, refused)
        return account, contribution
