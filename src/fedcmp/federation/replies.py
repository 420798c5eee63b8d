"""What a server makes of a reply, or of an edge's sum of several: the clients' records of the round, and what the rule
folds in."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from fedcmp.aggregation import Aggregator, ClientUpdate
from fedcmp.federation.bounds import check_bounds
from fedcmp.runs.records import timestamp
from fedcmp.wire.edge_messages import AnyReply, PartialSum
from fedcmp.wire.messages import Reply
from fedcmp.wire.naming import Tensors
from fedcmp.wire.payload import decode, moved

Line = dict[str, Any]  # a client's record while its round is open


@dataclass(frozen=True)
class Clock:
    """Runs from a round's opening in this process: monotonic, since a machine's time may be set while it waits."""

    opened: str = field(default_factory=timestamp)
    _begun: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Return the seconds since then."""
        return time.monotonic() - self._begun


def client_line(reply: Reply, name: str, arrived: float | None) -> Line:
    """Return a client's record of one round, before the server has weighed it.

    Args:
        reply: what the client sent.
        name: of the client.
        arrived: seconds after the round's opening; None where a process of an older version received it.
    """
    return {
        "kind": "client",
        "round": reply.round,
        "client": max(reply.client, 0),
        "client_name": name,
        "num_examples": reply.num_examples,
        "alignment_error": reply.alignment_error,
        "update_norm": None,
        "learning_rate": None,
        **reply.figures,
        "bytes_up": 0,
        "bytes_down": 0,
        "seconds": reply.seconds,
        "arrived": arrived,
    }


def lines_of(reply: AnyReply, names: Sequence[str], arrived: float | None, bytes_down: int) -> dict[int, Line]:
    """Return the records of a reply's client, or of all clients that a sum accounts for.

    Args:
        reply: what came.
        names: of all clients.
        arrived: as in client_line; of a client beneath an edge, the edge says when its reply arrived there.
        bytes_down: of the assignment that a client was sent.
    """
    if not isinstance(reply, PartialSum):
        line = client_line(reply, names[reply.client], arrived)
        return {reply.client: line | {"bytes_up": reply.num_bytes, "bytes_down": bytes_down, "weight": 0.0}}
    lines = {}
    for account in reply.accounts:
        line = client_line(account.reply, names[account.reply.client], account.arrived)
        line |= {"bytes_up": account.bytes_up, "bytes_down": account.bytes_down, "weight": 0.0}
        lines[account.reply.client] = line | ({"refused": account.refused} if account.refused else {})
    return lines


def bytes_beyond(reply: AnyReply) -> int:
    """Return the bytes that its clients' records do not count: those between an edge and the server."""
    return reply.num_bytes + reply.bytes_down if isinstance(reply, PartialSum) else 0


def fold_in(rule: Aggregator, reply: AnyReply, before: Tensors) -> dict[int, float]:
    """Fold a reply, or a sum of several, into the rule's open round.

    Args:
        rule: the server rule.
        reply: what came.
        before: the server's tensors.

    Returns:
        Client that is merged -> norm of its update.

    Raises:
        ValueError: it cannot be merged; nothing has changed.
    """
    if not isinstance(reply, PartialSum):
        update = update_of(reply, before)
        norm = check_bounds(update, before)
        rule.add(update)
        return {reply.client: norm}
    accepted = [account for account in reply.accounts if account.norm is not None]
    for name, expected in (("clients", len(accepted)), ("examples", sum(a.reply.num_examples for a in accepted))):
        if accepted and (name not in reply.sums or float(reply.sums[name].sum()) != expected):
            raise ValueError(f"the edge's sum does not fit its accounts of its sites: {name} must be {expected:,}")
    if accepted:
        rule.accumulate(reply.sums)
    return {account.reply.client: account.norm for account in accepted if account.norm is not None}


def update_of(reply: Reply, before: Tensors) -> ClientUpdate:
    """Return what a client sent, decoded; ValueError where it does not fit the server's tensors."""
    if reply.measure_only and not reply.update and not reply.state:
        state: Tensors = dict(before)
    else:
        state = moved(before, decode(reply.update)) if reply.update else reply.state
    return ClientUpdate(
        state=state,
        num_examples=reply.num_examples,
        alignment_error=reply.alignment_error,
        second_moment=decode(reply.second_moment) or None,
        extra={label: decode(named) for label, named in reply.extra.items()} or None,
    )
