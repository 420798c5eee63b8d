"""What local training begins with and ends with: a part of a client's pairs, a learner, what came of it; a store."""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fedcmp.aggregation import ClientUpdate
from fedcmp.wire.part_state import PartState

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Part:
    """What one learner trains on in one call.

    Attributes:
        batches: positions of the pairs, one array a step; together one epoch over the part.
        rates: learning rate of each step.
        swapped: pair -> the pair whose caption it carries (see scenarios/manifest.py).
    """

    batches: list[NDArray[np.int64]]
    rates: list[float]
    swapped: dict[int, int]


@dataclass(frozen=True)
class Learner:
    """One learner at the beginning of its part.

    Attributes:
        part: what it trains on.
        start: the tensors that it starts from.
        optimizer: the step's state from an earlier part of the same learner; None: a fresh one.
        memory: what its objective and step kept since its last part: label -> name -> tensor; None in its first.
    """

    part: Part
    start: Tensors
    optimizer: Tensors | None = None
    memory: dict[str, Tensors] | None = None


@dataclass(frozen=True)
class Trained:
    """What came of it.

    Attributes:
        update: what a client sends to the server.
        losses: caption loss of each step, nats a caption token, without the objective's penalty; none in an opening
            round.
        optimizer: the step's state by "moment.tensor", to be handed in again.
        change: norm of the trained tensors' change over the part.
        memory: to be handed in again with the learner's next part.
    """

    update: ClientUpdate
    losses: list[float]
    optimizer: Tensors
    change: float
    memory: dict[str, Tensors] = field(default_factory=dict)


class PartStore(Protocol):
    """Where the middle of a part is kept, so that a killed learner continues there (federation/client_folder.py)."""

    def load(self) -> PartState | None:
        """Return what was saved of these very assignments, or None."""

    def due(self) -> bool:
        """Return whether it is time to save again."""

    def save(self, state: PartState) -> None:
        """Keep the state in the place of the last one."""

    @property
    def work(self) -> str:
        """What these assignments are told from others by."""
