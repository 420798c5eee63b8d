"""How a learner steps along its gradients: hooks of one local round.

A step sees the whole cohort at once: tensors are stacked over the learners (C, ...) or over those active in a step
(A, ...). Gradients arrive summed over the ranks that share a client's batches; what `observe` sees is this rank's
samples only, perhaps none of a learner's, and is added up by `local.group.sums`.
"""

from collections.abc import Sequence

from torch import Tensor

from fedcmp.aggregation.service import Service
from fedcmp.client.cohort import JointBatch, Stacked
from fedcmp.client.local_round import LocalRound
from fedcmp.client.optimizer import Optimisation, StackedOptimizer


class Step:
    """Base of all steps: one object for one local round of a cohort.

    Attributes:
        sends: labels of the extras that `end` fills itself where the server asks for them. Others that it asks for are
            measured alongside, whatever the step (meters.py).
    """

    sends: frozenset[str] = frozenset()

    def services(self) -> Sequence[Service]:
        """Return what the server must do for this step besides merging: its halves, fresh."""
        return ()

    def optimizer(self, local: LocalRound, settings: Optimisation) -> StackedOptimizer:
        """Return what takes the round's steps; called once, before any other hook but `services`."""
        raise NotImplementedError

    def observe(self, local: LocalRound, batch: JointBatch) -> None:
        """Called with every batch before its step, and with every batch of a round that only measures."""

    def part_state(self) -> Stacked:
        """Return what the step has gathered outside optimiser and `local`, to continue in the middle of a part."""
        return {}

    def load_part_state(self, saved: dict[str, Tensor]) -> None:
        """Take up what `part_state` returned."""

    def end(self, local: LocalRound) -> None:
        """Called after the last step: fill `local.extras`, and put what the next round needs into `local.memory`."""
