"""What a client minimises besides the caption loss: hooks of one local round. How it steps is another choice (steps/).

The default of every hook is plain training. An objective sees the whole cohort at once: tensors are stacked over the
learners (C, ...) or over those active in a step (A, ...); a rule written for one learner reads the same.

Where several ranks share a client's batches (fedcmp.distributed), `observe` and `penalty` see this rank's samples only,
perhaps none of a learner's; gradients arrive summed. A penalty that is a mean over the samples, or a term of the
parameters alone, needs nothing more; what `observe` has summed up, `end` adds over the ranks by `local.group.sums`.
"""

import torch
from torch import Tensor

from fedcmp.client.cohort import JointBatch, Stacked
from fedcmp.client.local_round import LocalRound


class Objective:
    """Plain local training; the base of all others."""

    def rates(self, rates: list[float]) -> list[float]:
        """The learning rates of the round's steps, from those of the run's schedule."""
        return rates

    def begin(self, local: LocalRound) -> None:
        """Called before the first step."""

    def observe(self, local: LocalRound, batch: JointBatch) -> None:
        """Called with every batch before its step, and with every batch of a round that only measures."""

    def penalty(self, local: LocalRound, batch: JointBatch, visual_ABPD: Tensor) -> Tensor | None:
        """(A,) what is added to each learner's loss: a mean over its samples, or a term of its parameters alone."""
        del local, batch, visual_ABPD
        return None

    def displacement(self, gradients: Stacked) -> Stacked | None:
        """name -> (A, ...): where to look for a second gradient, which then replaces the first; None: nowhere."""
        del gradients
        return None

    def correct(self, local: LocalRound, gradients: Stacked, learners_A: Tensor) -> None:
        """Change the gradients in place, before they are clipped."""

    def part_state(self) -> Stacked:
        """Return what the objective has gathered since `begin` outside `local`, to continue in the middle of a part."""
        return {}

    def load_part_state(self, saved: Stacked) -> None:
        """Take up what `part_state` returned; called in the place of `begin`."""

    def end(self, local: LocalRound) -> None:
        """Called after the last step: fill `local.extras`, and put what the next round needs into `local.memory`."""


def mean_token(visual_ABPD: Tensor) -> Tensor:
    """(A, B, D) mean visual token of each sample."""
    return visual_ABPD.mean(2)


def squared_distance(first: Stacked, second: Stacked) -> Tensor:
    """(A,) squared Euclidean distance of each learner's two projectors, over all tensors."""
    return torch.stack([(first[name] - second[name]).flatten(1).square().sum(1) for name in first]).sum(0)
