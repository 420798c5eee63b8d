"""Of what the headers of messages between a server, edge servers and sites are made: fields within bounds, and what all
requests carry.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import Field
from torch import Tensor

from fedcmp.wire.naming import MessageError, MessageHeader, Tensors, checked

Header = dict[str, Any]
Frame = tuple[Header, Tensors]

Name = Annotated[str, Field(min_length=1, max_length=200)]
Line = Annotated[str, Field(max_length=4000)]
Document = Annotated[str, Field(max_length=1_000_000)]
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{16,64}$")]
Number = Annotated[int, Field(ge=0, le=2**53)]
Pairs = Annotated[int, Field(ge=1, le=10**10)]  # of one site: those of 10,000 sites are still a Number
Width = Annotated[int, Field(ge=1, le=2**17)]
Seconds = Annotated[float, Field(ge=0, le=1e9)]
Nats = Annotated[float, Field(ge=0, le=1e30)]
Counts = Annotated[dict[Name, Number], Field(max_length=10_000)]


class Plain(MessageHeader):
    """A message without tensors: its fields are its header."""

    def to_tensors(self) -> Frame:
        """Return header and no tensors."""
        return self.model_dump(), {}

    @classmethod
    def from_tensors(cls, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """Read what `to_tensors` returned.

        Raises:
            MessageError: another header, or tensors.
        """
        if tensors:
            raise MessageError(f"{cls.model_fields['message'].default}: has {len(tensors)} tensors; it must have none")
        return checked(cls, header)


class RequestHeader(MessageHeader):
    """What every request says.

    `run` names the server's run, `attempt` and `number` are its ticket, and `patience` says after how many seconds an
    answer is due, be it that the work is not done yet.
    """

    run: Hash
    attempt: Number
    number: Number
    patience: Seconds

    @property
    def ticket(self) -> tuple[int, int]:
        """What orders all requests of a run."""
        return self.attempt, self.number


@dataclass(frozen=True, eq=False)
class TensorRequest:
    """What every request with tensors says; the fields are those of `RequestHeader`."""

    run: str
    attempt: int
    number: int
    patience: float

    @property
    def ticket(self) -> tuple[int, int]:
        """What orders all requests of a run."""
        return self.attempt, self.number

    @property
    def head(self) -> dict[str, Any]:
        """These fields, for the header."""
        return {"run": self.run, "attempt": self.attempt, "number": self.number, "patience": self.patience}
