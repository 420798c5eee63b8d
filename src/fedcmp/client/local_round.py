"""One round of local training, as what takes part in it sees it. Shapes: see cohort.py."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fedcmp.client.cohort import Cohort, JointBatch, Stacked
from fedcmp.distributed import ALONE, Group


@dataclass
class LocalRound:
    """One round of local training, as objectives and steps see it.

    Attributes:
        cohort: the learners: `cohort.parameters`, `cohort.starts`.
        broadcast: what the server sent beside the projector: label -> name -> tensor.
        memory: what objective and step kept for the learners since their last round: label -> name -> (C, ...); a
            learner without one has zeros there, and False in `remembers_C`.
        remembers_C: (C,) whether a learner took part before.
        gradient_at_start: name -> (C, ...), the mean gradient over the round's part at the start; computed when called.
        grams_at_start: weight's name -> (C, I, I), the mean of x x^T over the round's part at the start, x what a layer
            is fed and a one; computed when called.
        asked: labels of the extras that the server reads of what a step can send.
        extras: filled by `end`: label -> name -> (C, ...), sent to the server with the update.
        group: the ranks that share the learners' batches.
    """

    cohort: Cohort
    broadcast: dict[str, dict[str, Tensor]]
    memory: dict[str, Stacked]
    remembers_C: Tensor
    gradient_at_start: Callable[[], Stacked]
    grams_at_start: Callable[[], Stacked] = dict
    asked: frozenset[str] = frozenset()
    extras: dict[str, Stacked] = field(default_factory=dict)
    group: Group = ALONE
    _seen: JointBatch | None = None
    _grams: tuple[Stacked, Tensor] | None = None

    def input_grams(self, batch: JointBatch) -> tuple[Stacked, Tensor]:
        """Cohort.input_grams of this rank's samples, computed once per batch however many ask; read only."""
        if self._seen is not batch or self._grams is None:
            self._seen, self._grams = batch, self.cohort.input_grams(batch)
        return self._grams

    def stacked_broadcast(self, label: str) -> Stacked:
        """A broadcast projector-shaped tensor set, one copy a learner (views); zeros where the server sent none.

        Raises:
            ValueError: a tensor is missing, or of another shape.
        """
        starts = self.cohort.starts
        sent = self.received(label, {name: tensor[0] for name, tensor in starts.items()})
        if sent is None:
            return {name: torch.zeros_like(tensor) for name, tensor in starts.items()}
        return {name: tensor.expand(len(self.cohort), *tensor.shape) for name, tensor in sent.items()}

    def received(self, label: str, like: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """What the server broadcast under a label, of one learner's shapes; None where it sent none.

        Args:
            label: of the broadcast.
            like: name -> tensor of the shape, dtype and device that it must have, or take.

        Raises:
            ValueError: a tensor is missing, or of another shape.
        """
        sent = self.broadcast.get(label)
        if sent is None:
            return None
        for name, tensor in like.items():
            if name not in sent or sent[name].shape != tensor.shape:
                found = "missing" if name not in sent else tuple(sent[name].shape)
                raise ValueError(f"{label} of {name} is {found}; it must be {tuple(tensor.shape)}")
        return {name: sent[name].to(tensor) for name, tensor in like.items()}


def stacked_memory(memories: Sequence[Mapping[str, Mapping[str, Tensor]]], device: torch.device) -> dict[str, Stacked]:
    """Return what objective and step kept of each learner, stacked; zeros for a learner that has nothing yet."""
    stacked: dict[str, Stacked] = {}
    for label in sorted({label for memory in memories for label in memory}):
        known = next(memory[label] for memory in memories if label in memory)
        kept = [memory.get(label) or {name: tensor * 0 for name, tensor in known.items()} for memory in memories]
        stacked[label] = {name: torch.stack([own[name] for own in kept]).to(device) for name in known}
    return stacked


def of_learner(stacked: Mapping[str, Stacked], number: int) -> dict[str, dict[str, Tensor]]:
    """Return a copy of one learner's tensors, on the CPU: label -> name -> tensor."""
    return {
        label: {name: tensor[number].detach().cpu().clone() for name, tensor in tensors.items()}
        for label, tensors in stacked.items()
    }
