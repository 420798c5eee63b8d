"""What server and clients say to each other, and what a client keeps to itself: three typed messages.

    Assignment   server -> client   what to train in this round, from which tensors
    Reply        client -> server   what came of it
    ClientState  client -> client   what it needs in its next round; it never leaves the client

Each is a JSON header and a flat dict of named tensors, fit for one frame (frames.py) or one safetensors file. Only this
file knows how the tensors are named there ("state/linear_1.weight", "public/canonical_basis/linear_1.weight", ...).
`from_tensors` refuses whatever `to_tensors` did not make: another version, a missing or unknown key, a wrong type.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

from pydantic import Field
from torch import Tensor

from fedcmp.wire.naming import Labelled, MessageHeader, Tensors, checked, joined, parted
from fedcmp.wire.payload import Forms, Payload, wire_bytes

Header = dict[str, Any]
Figure = Literal["loss", "loss_first", "loss_last", "update_norm", "learning_rate"]  # that a client reports


class _AssignmentHeader(MessageHeader):
    message: Literal["assignment"] = "assignment"
    round: int = Field(ge=1)
    measure_only: bool
    learning_rate: float = Field(gt=0, allow_inf_nan=False)
    objective: str
    objective_options: dict[str, Any]
    step: str
    step_options: dict[str, Any]
    extras: list[str]
    with_second_moment: bool
    update_form: Payload
    state_form: Payload
    extra_form: Payload
    error_feedback: bool
    continues: int = Field(ge=0)
    keep_optimizer: bool


class _ReplyHeader(MessageHeader):
    message: Literal["reply"] = "reply"
    round: int = Field(ge=1)
    measure_only: bool
    client: int
    num_examples: int = Field(ge=0)
    alignment_error: float
    figures: dict[Figure, float]
    seconds: float = Field(ge=0, allow_inf_nan=False)
    kept: bool


class _StateHeader(MessageHeader):
    message: Literal["client state"] = "client state"
    round: int = Field(ge=1)


@dataclass(frozen=True, eq=False)
class Assignment:
    """One client's work in one round.

    Attributes:
        round: 1 for the first.
        measure_only: take no step; objective and step see every batch (an opening round).
        learning_rate: peak rate of the run's schedule.
        objective: name of the local objective; `objective_options` are its own.
        step: name of the client's step; `step_options` are its own.
        extras: labels of what the server reads of the step and of what is measured alongside, sorted.
        with_second_moment: send AdamW's second moments along.
        forms: in which form each part travels.
        error_feedback: add what rounding lost of an update to the client's next one.
        continues: the round whose ClientState the client continues from; 0: it starts with none.
        keep_optimizer: keep optimiser and trained tensors for the next round (learners without a server).
        state: the tensors to start from, encoded as `forms.state` says; empty: those of the client's own state.
        public: what the server rule broadcasts beside them, label -> name -> tensor.
    """

    round: int
    learning_rate: float
    forms: Forms
    objective: str = "plain"
    objective_options: Mapping[str, Any] = field(default_factory=dict)
    step: str = "adamw"
    step_options: Mapping[str, Any] = field(default_factory=dict)
    extras: Sequence[str] = ()
    measure_only: bool = False
    with_second_moment: bool = False
    error_feedback: bool = False
    continues: int = 0
    keep_optimizer: bool = False
    state: Tensors = field(default_factory=dict)
    public: Labelled = field(default_factory=dict)

    @property
    def num_bytes(self) -> int:
        """Bytes of its tensors on the network."""
        return wire_bytes(joined(state=self.state, public=self.public))

    def continuing(self, round_number: int) -> Self:
        """Return the same assignment for a client that continues from the state of that round."""
        return replace(self, continues=round_number)

    def header(self) -> Header:
        """Return the JSON header alone."""
        return _AssignmentHeader(
            round=self.round,
            measure_only=self.measure_only,
            learning_rate=self.learning_rate,
            objective=self.objective,
            objective_options=dict(self.objective_options),
            step=self.step,
            step_options=dict(self.step_options),
            extras=list(self.extras),
            with_second_moment=self.with_second_moment,
            update_form=self.forms.update,
            state_form=self.forms.state,
            extra_form=self.forms.extra,
            error_feedback=self.error_feedback,
            continues=self.continues,
            keep_optimizer=self.keep_optimizer,
        ).model_dump()

    def to_tensors(self) -> tuple[Header, Tensors]:
        """Return header and named tensors."""
        return self.header(), joined(state=self.state, public=self.public)

    @classmethod
    def from_tensors(cls, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """Read what `to_tensors` returned.

        Raises:
            MessageError: header or tensors are not of that form.
        """
        head = checked(_AssignmentHeader, header)
        plain, labelled = parted("assignment", tensors, plain=("state",), labelled=("public",))
        return cls(
            round=head.round,
            learning_rate=head.learning_rate,
            forms=Forms(head.update_form, head.state_form, head.extra_form),
            objective=head.objective,
            objective_options=head.objective_options,
            step=head.step,
            step_options=head.step_options,
            extras=tuple(head.extras),
            measure_only=head.measure_only,
            with_second_moment=head.with_second_moment,
            error_feedback=head.error_feedback,
            continues=head.continues,
            keep_optimizer=head.keep_optimizer,
            state=plain["state"],
            public=labelled["public"],
        )


@dataclass(frozen=True, eq=False)
class Reply:
    """What one client sends back.

    Attributes:
        round: the assignment's.
        measure_only: the assignment's.
        client: the client's number; below 0 for a learner on pooled pairs.
        num_examples: samples that it trained on.
        alignment_error: see docs/methods.md.
        figures: what is logged: losses, norm of the update, rate.
        seconds: of its work.
        kept: whether it keeps a ClientState of this round.
        state: the trained tensors as they are; empty where `update` is sent.
        update: trained minus received tensors, encoded.
        second_moment: AdamW's second moments, encoded; empty unless asked for.
        extra: what objective and step send, label -> encoded tensors.
    """

    round: int
    client: int
    num_examples: int
    alignment_error: float
    measure_only: bool = False
    figures: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    kept: bool = False
    state: Tensors = field(default_factory=dict)
    update: Tensors = field(default_factory=dict)
    second_moment: Tensors = field(default_factory=dict)
    extra: Labelled = field(default_factory=dict)

    @property
    def num_bytes(self) -> int:
        """Bytes of its tensors on the network."""
        return wire_bytes(self._tensors())

    def _tensors(self) -> Tensors:
        return joined(state=self.state, update=self.update, second_moment=self.second_moment, extra=self.extra)

    def to_tensors(self) -> tuple[Header, Tensors]:
        """Return header and named tensors."""
        header = _ReplyHeader(
            round=self.round,
            measure_only=self.measure_only,
            client=self.client,
            num_examples=self.num_examples,
            alignment_error=self.alignment_error,
            figures=dict(self.figures),  # type: ignore[arg-type]  # checked there
            seconds=self.seconds,
            kept=self.kept,
        )
        return header.model_dump(), self._tensors()

    @classmethod
    def from_tensors(cls, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """Read what `to_tensors` returned.

        Raises:
            MessageError: header or tensors are not of that form.
        """
        head = checked(_ReplyHeader, header)
        plain, labelled = parted("reply", tensors, plain=("state", "update", "second_moment"), labelled=("extra",))
        return cls(
            round=head.round,
            client=head.client,
            num_examples=head.num_examples,
            alignment_error=head.alignment_error,
            measure_only=head.measure_only,
            figures={str(name): value for name, value in head.figures.items()},
            seconds=head.seconds,
            kept=head.kept,
            **plain,
            extra=labelled["extra"],
        )


@dataclass(frozen=True, eq=False)
class ClientState:
    """What stays with a client between its rounds.

    Attributes:
        round: the round at whose end it was made.
        memory: what its objective and step keep: label -> name -> tensor.
        residual: what rounding lost of its updates.
        optimizer: the step's state, of learners without a server.
        state: the trained tensors, of learners without a server.
    """

    round: int
    memory: Labelled = field(default_factory=dict)
    residual: Tensors = field(default_factory=dict)
    optimizer: Tensors = field(default_factory=dict)
    state: Tensors = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether there is anything to keep."""
        return bool(self.memory or self.residual or self.optimizer or self.state)

    def to_tensors(self) -> tuple[Header, Tensors]:
        """Return header and named tensors."""
        tensors = joined(memory=self.memory, residual=self.residual, optimizer=self.optimizer, state=self.state)
        return _StateHeader(round=self.round).model_dump(), tensors

    @classmethod
    def from_tensors(cls, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """Read what `to_tensors` returned.

        Raises:
            MessageError: header or tensors are not of that form.
        """
        head = checked(_StateHeader, header)
        plain, labelled = parted(
            "client state", tensors, plain=("residual", "optimizer", "state"), labelled=("memory",)
        )
        return cls(head.round, labelled["memory"], **plain)
