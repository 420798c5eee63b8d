"""A cohort in the middle of its part of a round: what a learner needs to continue there after a kill, to the bit."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic import Field
from torch import Tensor

from fedcmp.wire.naming import Labelled, MessageHeader, Tensors, checked, joined, parted


class _PartHeader(MessageHeader):
    message: Literal["part state"] = "part state"
    work: str
    next_step: int = Field(ge=1)
    losses: list[list[float]]
    examples: list[int]


@dataclass(frozen=True, eq=False)
class PartState:
    """Everything that later steps depend on. Tensors are stacked over the C learners: (C, ...).

    Attributes:
        work: says of which assignments it is the middle; another one's is not continued.
        next_step: the step to take next, from 1 (0 would be the beginning).
        losses: each learner's losses so far.
        examples: each learner's samples so far.
        parameters: the trained tensors.
        optimizer: the optimiser's own.
        gathered: what objective, step and meters have summed up.
        extras: what it will send, label -> tensors.
        memory: what it will keep, label -> tensors.
    """

    work: str
    next_step: int
    losses: list[list[float]]
    examples: list[int]
    parameters: Tensors
    optimizer: Tensors
    gathered: Tensors
    extras: Labelled
    memory: Labelled

    def to_tensors(self) -> tuple[dict[str, Any], Tensors]:
        """Return header and named tensors."""
        header = _PartHeader(work=self.work, next_step=self.next_step, losses=self.losses, examples=self.examples)
        tensors = joined(
            parameters=self.parameters,
            optimizer=self.optimizer,
            gathered=self.gathered,
            extras=self.extras,
            memory=self.memory,
        )
        return header.model_dump(), tensors

    @classmethod
    def from_tensors(cls, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """Read what `to_tensors` returned.

        Raises:
            MessageError: header or tensors are not of that form.
        """
        head = checked(_PartHeader, header)
        plain, labelled = parted(
            "part state",
            tensors,
            plain=("parameters", "optimizer", "gathered"),
            labelled=("extras", "memory"),
        )
        return cls(
            work=head.work,
            next_step=head.next_step,
            losses=head.losses,
            examples=head.examples,
            parameters=plain["parameters"],
            optimizer=plain["optimizer"],
            gathered=plain["gathered"],
            extras=labelled["extras"],
            memory=labelled["memory"],
        )
