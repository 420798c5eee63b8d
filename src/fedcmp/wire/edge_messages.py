"""What a server and an edge server say to each other: the work of all of its sites, and one sum of what they sent.

    Delegation   server -> edge   an Assignment for each of its sites, and what their contributions depend on
    PartialSum   edge -> server   their contributions added up, and an account of each of them

The edge passes the assignments down as they are and folds the replies into sums by the rule's own `contribution`
(federation/edge.py). Only what is summed goes on: the server sees no single site's tensors.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from fedcmp.wire.messages import Assignment, Header, Reply
from fedcmp.wire.naming import Labelled, MessageError, MessageHeader, Tensors, checked, joined, parted
from fedcmp.wire.payload import wire_bytes

MOST_CLIENTS = 10**5  # of one edge
_Bytes = Annotated[int, Field(ge=0, le=2**62)]
_Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Scalar = Annotated[float, Field(allow_inf_nan=False)]


class _DelegationHeader(MessageHeader):
    message: Literal["delegation"] = "delegation"
    assignment: dict[str, Any]
    clients: list[Annotated[int, Field(ge=0)]] = Field(min_length=1, max_length=MOST_CLIENTS)
    continues: list[Annotated[int, Field(ge=0)]] = Field(max_length=MOST_CLIENTS)
    rule_round: int = Field(ge=0)
    scalars: dict[str, _Scalar]


class _AccountHeader(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    reply: dict[str, Any]
    bytes_up: _Bytes
    bytes_down: _Bytes
    arrived: _Seconds | None
    norm: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None
    refused: Annotated[str, Field(max_length=4000)]


class _PartialSumHeader(MessageHeader):
    message: Literal["partial sum"] = "partial sum"
    round: int = Field(ge=1)
    measure_only: bool
    accounts: list[_AccountHeader] = Field(min_length=1, max_length=MOST_CLIENTS)
    bytes_down: _Bytes


@dataclass(frozen=True, eq=False)
class Delegation:
    """One round's work of the sites of one edge.

    Attributes:
        assignment: what they all share.
        continues: client -> the round whose ClientState it continues from; the clients are numbered over all edges.
        rule_round: rounds that the rule has finished.
        start: the server's own tensors, where the assignment's are rounded; else empty.
        exact: what the rule's contributions depend on, label -> name -> tensor, in full precision.
        scalars: likewise, numbers.
    """

    assignment: Assignment
    continues: Mapping[int, int]
    rule_round: int = 0
    start: Tensors = field(default_factory=dict)
    exact: Labelled = field(default_factory=dict)
    scalars: Mapping[str, float] = field(default_factory=dict)

    @property
    def num_bytes(self) -> int:
        """Bytes of its tensors on the network."""
        return wire_bytes(self.to_tensors()[1])

    def to_tensors(self) -> tuple[Header, Tensors]:
        """Return header and named tensors."""
        clients = sorted(self.continues)
        header = _DelegationHeader(
            assignment=self.assignment.header(),
            clients=clients,
            continues=[self.continues[client] for client in clients],
            rule_round=self.rule_round,
            scalars=dict(self.scalars),
        )
        given = self.assignment
        return header.model_dump(), joined(state=given.state, public=given.public, start=self.start, exact=self.exact)

    @classmethod
    def from_tensors(cls, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """Read what `to_tensors` returned.

        Raises:
            MessageError: header or tensors are not of that form.
        """
        head = checked(_DelegationHeader, header)
        if len(head.clients) != len(head.continues) or len(set(head.clients)) != len(head.clients):
            raise MessageError("delegation: clients must be different ones, each with the round that it continues from")
        plain, labelled = parted("delegation", tensors, plain=("state", "start"), labelled=("public", "exact"))
        return cls(
            Assignment.from_tensors(head.assignment, joined(state=plain["state"], public=labelled["public"])),
            dict(zip(head.clients, head.continues, strict=True)),
            head.rule_round,
            plain["start"],
            labelled["exact"],
            head.scalars,
        )


@dataclass(frozen=True, eq=False)
class Account:
    """What a server learns of one site beneath an edge.

    Attributes:
        reply: the site's, without its tensors.
        bytes_up, bytes_down: of their tensors, between site and edge.
        arrived: seconds after the edge had opened the round; None where an earlier process of it received the reply.
        norm: of its update; None where it is refused.
        refused: why it is not in the sum; "" where it is.
    """

    reply: Reply
    bytes_up: int
    bytes_down: int
    arrived: float | None
    norm: float | None
    refused: str = ""


@dataclass(frozen=True, eq=False)
class PartialSum:
    """What an edge sends on in place of its sites' replies.

    Attributes:
        round, measure_only: the assignment's.
        accounts: of the sites that replied, by ascending client.
        sums: the accepted ones' contributions added up, as the rule has them; empty where none was accepted.
        bytes_down: of the delegation that it answers.
    """

    round: int
    accounts: tuple[Account, ...]
    sums: Tensors = field(default_factory=dict)
    measure_only: bool = False
    bytes_down: int = 0

    @property
    def client(self) -> int:
        """The first of its clients: where its turn is."""
        return self.accounts[0].reply.client

    @property
    def clients(self) -> tuple[int, ...]:
        """Its clients, ascending."""
        return tuple(account.reply.client for account in self.accounts)

    @property
    def num_bytes(self) -> int:
        """Bytes of its tensors on the network."""
        return wire_bytes(self.sums)

    def to_tensors(self) -> tuple[Header, Tensors]:
        """Return header and named tensors."""
        accounts = [
            _AccountHeader(
                reply=each.reply.to_tensors()[0],
                bytes_up=each.bytes_up,
                bytes_down=each.bytes_down,
                arrived=each.arrived,
                norm=each.norm,
                refused=each.refused,
            )
            for each in self.accounts
        ]
        header = _PartialSumHeader(
            round=self.round, measure_only=self.measure_only, accounts=accounts, bytes_down=self.bytes_down
        )
        return header.model_dump(), joined(sums=self.sums)

    @classmethod
    def from_tensors(cls, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """Read what `to_tensors` returned.

        Raises:
            MessageError: header or tensors are not of that form, or its accounts contradict them.
        """
        head = checked(_PartialSumHeader, header)
        plain, _ = parted("partial sum", tensors, plain=("sums",), labelled=())
        accounts = tuple(
            Account(Reply.from_tensors(a.reply, {}), a.bytes_up, a.bytes_down, a.arrived, a.norm, a.refused)
            for a in head.accounts
        )
        found = cls(head.round, accounts, plain["sums"], head.measure_only, head.bytes_down)
        if list(found.clients) != sorted(set(found.clients)) or found.client < 0:
            raise MessageError("partial sum: its clients must be different ones, in ascending order")
        if any((a.reply.round, a.reply.measure_only) != (found.round, found.measure_only) for a in accounts):
            raise MessageError("partial sum: holds replies to another round")
        if any((account.norm is None) != bool(account.refused) for account in accounts):
            raise MessageError("partial sum: a client is either refused, or has the norm of its update")
        if bool(found.sums) != any(account.norm is not None for account in accounts):
            raise MessageError("partial sum: must hold sums where a client was accepted, and only there")
        return found


AnyReply = Reply | PartialSum


def read_reply(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> AnyReply:
    """Read a reply or a sum of several.

    Raises:
        MessageError: it is neither.
    """
    is_sum = isinstance(header, Mapping) and header.get("message") == "partial sum"
    return PartialSum.from_tensors(header, tensors) if is_sum else Reply.from_tensors(header, tensors)


def parts_of(reply: AnyReply) -> tuple[Reply, ...]:
    """Return the sites' own replies: of a sum without their tensors."""
    return tuple(account.reply for account in reply.accounts) if isinstance(reply, PartialSum) else (reply,)
