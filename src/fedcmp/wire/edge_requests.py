"""What a server sends to an edge server of a deployment, around what it sends to sites (site_messages.py).

    Relay        a request for one site beneath the edge; the site's answer comes back as it is, or Unreached
    Delegating   a Delegation: work for all of its sites; a PartialSum comes back, or Working, or a Refusal

Only the work of a round is summed. Invitations, placements and judging are relayed: the server knows every site.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field
from torch import Tensor

from fedcmp.wire.edge_messages import MOST_CLIENTS, Delegation
from fedcmp.wire.files import message_hash
from fedcmp.wire.naming import MessageError, MessageHeader, Tensors, checked, joined, parted
from fedcmp.wire.site_headers import Frame, Header, Line, Name, Plain, RequestHeader, Seconds, TensorRequest


class _RelayHeader(MessageHeader):
    message: Literal["relay"] = "relay"
    site: Name
    header: dict[str, Any]


class Unreached(Plain):
    """The edge has no answer of the site, and why: it is to be asked again."""

    message: Literal["unreached"] = "unreached"
    reason: Line


@dataclass(frozen=True, eq=False)
class Relay:
    """A request for a site beneath the edge.

    Attributes:
        site: its name.
        frame: the request, which the edge passes on without looking at it.
    """

    site: str
    frame: Frame

    def to_tensors(self) -> Frame:
        """Return header and named tensors."""
        header, tensors = self.frame
        return _RelayHeader(site=self.site, header=header).model_dump(), joined(frame=tensors)

    @classmethod
    def from_tensors(cls, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """Read what `to_tensors` returned.

        Raises:
            MessageError: header or tensors are not of that form.
        """
        head = checked(_RelayHeader, header)
        plain, _ = parted("relay", tensors, plain=("frame",), labelled=())
        return cls(head.site, (head.header, plain["frame"]))


class _DelegatingHeader(RequestHeader):
    message: Literal["delegating"] = "delegating"
    release: Name
    method: Name
    rule: Name
    rule_options: dict[str, Any]
    sites: Annotated[list[Name], Field(min_length=1, max_length=MOST_CLIENTS)]
    seconds: Seconds | None
    delegation: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Delegating(TensorRequest):
    """Send an edge one round's work of its sites.

    Attributes:
        run, attempt, number, patience: as every request.
        release: the server's version of fedcmp; another one could add up otherwise.
        method: of the run's recipe.
        rule: name of its server rule; `rule_options` are its own.
        rule_options: plain values.
        sites: names of the delegation's clients, in their order.
        seconds: when the edge sends what it has; None: it waits for all.
        delegation: the work.
    """

    release: str
    method: str
    rule: str
    rule_options: Mapping[str, Any]
    sites: tuple[str, ...]
    seconds: float | None
    delegation: Delegation
    message: ClassVar[str] = "delegating"

    @property
    def job(self) -> str:
        """What tells this work from any other, however often it is sent."""
        header, tensors = self.delegation.to_tensors()
        return message_hash(json.dumps(["delegating", self.run, self.method, header], sort_keys=True), tensors)

    def to_tensors(self) -> Frame:
        """Return header and named tensors."""
        header, tensors = self.delegation.to_tensors()
        head = _DelegatingHeader(
            **self.head,
            release=self.release,
            method=self.method,
            rule=self.rule,
            rule_options=dict(self.rule_options),
            sites=list(self.sites),
            seconds=self.seconds,
            delegation=header,
        )
        return head.model_dump(), tensors

    @classmethod
    def from_tensors(cls, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """Read what `to_tensors` returned.

        Raises:
            MessageError: header or tensors are not of that form.
        """
        head = checked(_DelegatingHeader, header)
        delegation = Delegation.from_tensors(head.delegation, tensors)
        if len(set(head.sites)) != len(head.sites) or len(head.sites) != len(delegation.continues):
            raise MessageError("delegating: sites must name each of its clients once")
        return cls(
            head.run,
            head.attempt,
            head.number,
            head.patience,
            head.release,
            head.method,
            head.rule,
            head.rule_options,
            tuple(head.sites),
            head.seconds,
            delegation,
        )


def read_edge_request(header: Header, tensors: Tensors) -> Relay | Delegating:
    """Read what a server sent to an edge.

    Raises:
        MessageError: it is neither.
    """
    kind = header.get("message") if isinstance(header, Mapping) else None
    if kind == "relay":
        return Relay.from_tensors(header, tensors)
    if kind == "delegating":
        return Delegating.from_tensors(header, tensors)
    said = repr(kind) if isinstance(kind, str) else type(kind).__name__
    raise MessageError(f"message = {said}: must be one of relay, delegating; this is an edge server, not a site")
