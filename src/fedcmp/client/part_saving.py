"""The middle of a part on disk: saved between steps, and taken up by a process that continues there, to the bit."""

import torch

from fedcmp.client.cohort import Stacked
from fedcmp.client.local_round import LocalRound
from fedcmp.client.optimizer import StackedOptimizer
from fedcmp.client.parts import PartStore
from fedcmp.client.taking_part import TakingPart
from fedcmp.wire.part_state import PartState


class PartSaving:
    """Saves one call of train_cohort, and continues it.

    Args:
        store: where; None: nowhere, and every part begins at its beginning.
        local: the round.
        optimizer: what takes its steps.
        taking_part: what sees its batches.
        losses: each learner's losses so far; filled where the part is continued.
        examples: each learner's samples so far, likewise.
    """

    def __init__(
        self,
        store: PartStore | None,
        local: LocalRound,
        optimizer: StackedOptimizer,
        taking_part: TakingPart,
        losses: list[list[float]],
        examples: list[int],
    ) -> None:
        self._store, self._local, self._optimizer, self._taking_part = store, local, optimizer, taking_part
        self._losses, self._examples = losses, examples

    def continued(self) -> int:
        """Take up what was saved in the middle of this part; return the next step's number, 0 at the beginning."""
        if self._store is None:
            return 0
        saved, local = self._store.load(), self._local
        steps = local.group.gather(0 if saved is None else saved.next_step)
        if saved is None or len(set(steps)) > 1:  # killed while the ranks saved: some are a save ahead
            return 0
        for name, tensor in local.cohort.parameters.items():
            tensor.data.copy_(saved.parameters[name])
        self._optimizer.load_part_state(saved.optimizer)
        self._taking_part.load_part_state(self._on_device(saved.gathered))
        local.extras.update({label: self._on_device(own) for label, own in saved.extras.items()})
        local.memory.update({label: self._on_device(own) for label, own in saved.memory.items()})
        self._losses[:] = [list(own) for own in saved.losses]
        self._examples[:] = saved.examples
        return saved.next_step

    def after(self, step: int) -> None:
        """Save what has come of the steps up to this one, where it is time to."""
        store = self._store
        if store is None or not self._agreed(store.due()):
            return
        detached = {name: tensor.detach() for name, tensor in self._local.cohort.parameters.items()}
        state = PartState(
            work=store.work,
            next_step=step + 1,
            losses=self._losses,
            examples=self._examples,
            parameters=detached,
            optimizer=self._optimizer.part_state(),
            gathered=self._taking_part.part_state(),
            extras=self._local.extras,
            memory=self._local.memory,
        )
        store.save(state)

    def _agreed(self, due: bool) -> bool:
        """Whether rank 0 says so: all ranks save after the same step."""
        group = self._local.group
        (flag,) = group.sums([torch.tensor([float(due and group.rank == 0)])])
        return bool(flag.item())

    def _on_device(self, tensors: Stacked) -> Stacked:
        device = next(iter(self._local.cohort.starts.values())).device
        return {name: tensor.to(device) for name, tensor in tensors.items()}
