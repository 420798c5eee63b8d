"""What a server and an organisation's site say to each other around the work itself (messages.py).

    server -> site                          site -> server
    Invitation   which run this is          Admission    what the site has: pairs, widths, models
    Placement    which client it is         Holding      what it trains on, and what it holds out
    Training     an Assignment              Reply        (messages.py; of an edge server PartialSum, edge_messages.py)
    Judging      tensors to be judged       Judged       sums of losses on the site's held-out pairs
    Handover     what was trained           Kept         it is on the site's disk
    Collecting   is that job done?          Working      not yet; or NotKnown: send it again
                                            Refusal      why the site does not do it

Every request names its run and carries a ticket, a pair (attempt, number) that only grows: a site that has seen a later
one answers no earlier one, so that nothing can be replayed. A job is known by a hash of what it is to do: however often
it is sent, it is done once.

Each is a JSON header and named tensors, as in messages.py; `read_request` and `read_answer` refuse all else.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator
from torch import Tensor

from fedcmp.wire.edge_messages import PartialSum
from fedcmp.wire.files import message_hash
from fedcmp.wire.messages import Assignment, Reply
from fedcmp.wire.naming import MessageError, MessageHeader, Tensors, checked, joined, parted
from fedcmp.wire.site_headers import (
    Counts,
    Document,
    Hash,
    Line,
    Name,
    Nats,
    Number,
    Pairs,
    Plain,
    RequestHeader,
    Seconds,
    TensorRequest,
    Width,
)
from fedcmp.wire.site_headers import Frame as Frame
from fedcmp.wire.site_headers import Header as Header


class Invitation(RequestHeader, Plain):
    """Ask a site to take part: the run's recipe as TOML, and the release of fedcmp that the server runs."""

    message: Literal["invitation"] = "invitation"
    release: Name
    recipe: Document


class Admission(Plain):
    """What a site that takes part has: its usable pairs, the widths of its frozen parts, hashes of both."""

    message: Literal["admission"] = "admission"
    release: Name
    usable: Pairs
    vision_width: Width
    text_width: Width
    vision: Hash
    language: Hash


class Placement(RequestHeader, Plain):
    """Tell a site which client it is, out of how many, and how many usable pairs the clients before it hold."""

    message: Literal["placement"] = "placement"
    client: Number
    clients: Annotated[int, Field(ge=1, le=10**6)]
    first_position: Number


class PairsAccount(MessageHeader):
    """Where the pairs of one collection went: the fields of a "pairs" record (runs/records.py) but its name."""

    read: Number
    train: Number
    held_out: Number
    judged: Number
    refused: Counts
    unused: Counts
    ignored: Counts
    captions_cut: Number


class Holding(Plain):
    """What a site holds as that client: pairs to train on, by group, unusable ones by reason; accounts of them."""

    message: Literal["holding"] = "holding"
    train: Pairs
    groups: Counts
    bad_pairs: Counts
    missing_pairs: Number
    pairs: Annotated[list[PairsAccount], Field(max_length=100)]


class Collecting(RequestHeader, Plain):
    """Ask for the answer to a job that was sent before."""

    message: Literal["collecting"] = "collecting"
    job: Hash


class Working(Plain):
    """The job is not done yet: so many steps of so many are, as far as that is known."""

    message: Literal["working"] = "working"
    job: Hash
    steps: Number
    of: Number


class NotKnown(Plain):
    """The site does not know the job, or not the run: it lost them, or never got them. Send them again."""

    message: Literal["not known"] = "not known"
    what: Literal["job", "run"]


class Refusal(Plain):
    """Why a site does not do what is asked: it does not accept it, or could not do it (and may, if asked again)."""

    message: Literal["refusal"] = "refusal"
    reason: Line
    accepted: bool


class _TrainingHeader(RequestHeader):
    message: Literal["training"] = "training"
    method: Name
    assignment: dict[str, Any]


class _JudgingHeader(RequestHeader):
    message: Literal["judging"] = "judging"
    method: Name
    round: Number
    blind: bool


class _HandoverHeader(RequestHeader):
    message: Literal["handover"] = "handover"
    method: Name
    round: Annotated[int, Field(ge=1, le=2**53)]


class Kept(Plain):
    """The site has what was trained on its own disk."""

    message: Literal["kept"] = "kept"


class Judged(Plain):
    """Sums over a site's held-out captions.

    `losses` holds each group's -log p in nats, `tokens` their number, `captions` how many captions were judged: of each
    at least one, for the server divides by them.
    """

    message: Literal["judged"] = "judged"
    losses: Annotated[dict[Name, Nats], Field(min_length=1, max_length=10_000)]
    tokens: Annotated[dict[Name, Annotated[int, Field(ge=1, le=2**53)]], Field(max_length=10_000)]
    captions: Pairs
    seconds: Seconds

    @model_validator(mode="after")
    def _of_the_same_groups(self) -> Self:
        if self.losses.keys() != self.tokens.keys():
            raise ValueError("losses and tokens must be of the same groups")
        return self


@dataclass(frozen=True, eq=False)
class Training(TensorRequest):
    """Send a client its assignment.

    Attributes:
        run, attempt, number, patience: as every request.
        method: of the run's recipe.
        assignment: the work.
    """

    method: str
    assignment: Assignment
    message: ClassVar[str] = "training"

    @property
    def job(self) -> str:
        """What tells this work from any other, however often it is sent."""
        header, tensors = self.assignment.to_tensors()
        return message_hash(json.dumps(["training", self.run, self.method, header], sort_keys=True), tensors)

    def to_tensors(self) -> Frame:
        """Return header and named tensors."""
        header, tensors = self.assignment.to_tensors()
        head = _TrainingHeader(
            **self.head,
            method=self.method,
            assignment=header,
        )
        return head.model_dump(), tensors

    @classmethod
    def from_tensors(cls, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """Read what `to_tensors` returned.

        Raises:
            MessageError: header or tensors are not of that form.
        """
        head = checked(_TrainingHeader, header)
        assignment = Assignment.from_tensors(head.assignment, tensors)
        return cls(head.run, head.attempt, head.number, head.patience, head.method, assignment)


@dataclass(frozen=True, eq=False)
class Judging(TensorRequest):
    """Ask for the losses of a model on the site's held-out pairs.

    Attributes:
        run, attempt, number, patience: as every request.
        method: of the run's recipe.
        round: after which these tensors were merged; 0: before the first.
        blind: without images; `state` is then empty.
        state: the trained tensors.
    """

    method: str
    round: int
    blind: bool = False
    state: Tensors = field(default_factory=dict)
    message: ClassVar[str] = "judging"

    @property
    def job(self) -> str:
        """What tells this work from any other, however often it is sent."""
        head = json.dumps(["judging", self.run, self.method, self.round, self.blind])
        return message_hash(head, self.state)

    def to_tensors(self) -> Frame:
        """Return header and named tensors."""
        head = _JudgingHeader(
            **self.head,
            method=self.method,
            round=self.round,
            blind=self.blind,
        )
        return head.model_dump(), joined(state=self.state)

    @classmethod
    def from_tensors(cls, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """Read what `to_tensors` returned.

        Raises:
            MessageError: header or tensors are not of that form.
        """
        head = checked(_JudgingHeader, header)
        plain, _ = parted("judging", tensors, plain=("state",), labelled=())
        if head.blind == bool(plain["state"]):
            raise MessageError("judging: state must hold tensors, but for a blind model, which has none")
        return cls(
            head.run, head.attempt, head.number, head.patience, head.method, head.round, head.blind, plain["state"]
        )


@dataclass(frozen=True, eq=False)
class Handover(TensorRequest):
    """Hand a site what the federation has trained, to keep.

    Attributes:
        run, attempt, number, patience: as every request.
        method: of the run's recipe.
        round: the last one.
        state: the trained tensors.
    """

    method: str
    round: int
    state: Tensors
    message: ClassVar[str] = "handover"

    @property
    def job(self) -> str:
        """What tells this work from any other, however often it is sent."""
        return message_hash(json.dumps(["handover", self.run, self.method, self.round]), self.state)

    def to_tensors(self) -> Frame:
        """Return header and named tensors."""
        head = _HandoverHeader(
            **self.head,
            method=self.method,
            round=self.round,
        )
        return head.model_dump(), joined(state=self.state)

    @classmethod
    def from_tensors(cls, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """Read what `to_tensors` returned.

        Raises:
            MessageError: header or tensors are not of that form.
        """
        head = checked(_HandoverHeader, header)
        plain, _ = parted("handover", tensors, plain=("state",), labelled=())
        if not plain["state"]:
            raise MessageError("handover: state must hold tensors")
        return cls(head.run, head.attempt, head.number, head.patience, head.method, head.round, plain["state"])


Request = Invitation | Placement | Training | Judging | Handover | Collecting
Answer = Admission | Holding | Reply | PartialSum | Judged | Kept | Working | NotKnown | Refusal
_REQUESTS: dict[str, type[Request]] = {
    "invitation": Invitation,
    "placement": Placement,
    "training": Training,
    "judging": Judging,
    "handover": Handover,
    "collecting": Collecting,
}
_ANSWERS: dict[str, type[Answer]] = {
    "admission": Admission,
    "holding": Holding,
    "reply": Reply,
    "partial sum": PartialSum,
    "judged": Judged,
    "kept": Kept,
    "working": Working,
    "not known": NotKnown,
    "refusal": Refusal,
}


def read_request(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Request:
    """Read what a server sent.

    Raises:
        MessageError: it is no request, or malformed.
    """
    request: Request = _kind(_REQUESTS, header).from_tensors(header, tensors)
    return request


def read_answer(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Answer:
    """Read what a site sent.

    Raises:
        MessageError: it is no answer, or malformed.
    """
    answer: Answer = _kind(_ANSWERS, header).from_tensors(header, tensors)
    return answer


def _kind(kinds: dict[str, Any], header: Mapping[str, Any]) -> Any:
    kind = header.get("message") if isinstance(header, Mapping) else None
    if not isinstance(kind, str) or kind not in kinds:
        said = repr(kind) if isinstance(kind, str) else type(kind).__name__
        raise MessageError(f"message = {said}: must be one of {', '.join(kinds)}")
    return kinds[kind]


def job_of(request: Invitation | Placement) -> str:
    """Return what tells a preparation from any other, however often it is asked for."""
    ticket = {"attempt", "number", "patience"}
    return hashlib.sha256(json.dumps(request.model_dump(exclude=ticket), sort_keys=True).encode()).hexdigest()
