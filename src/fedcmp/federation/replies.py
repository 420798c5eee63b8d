"""What a server makes of one reply: the client's record of the round, and the update that the rule folds in."""

import time
from dataclasses import dataclass, field
from typing import Any

from fedcmp.aggregation import ClientUpdate
from fedcmp.runs.records import timestamp
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


def update_of(reply: Reply, before: Tensors) -> ClientUpdate:
    """Return what a client sent, decoded; ValueError where it does not fit the server's tensors."""
    return ClientUpdate(
        state=moved(before, decode(reply.update)) if reply.update else reply.state,
        num_examples=reply.num_examples,
        alignment_error=reply.alignment_error,
        second_moment=decode(reply.second_moment) or None,
        extra={label: decode(named) for label, named in reply.extra.items()} or None,
    )
