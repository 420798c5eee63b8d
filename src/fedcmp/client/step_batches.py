"""The joint batches of a part, one a step: which pairs this rank takes, and reading them while the last are computed.

Shapes: see cohort.py.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from fedcmp.client.cohort import JointBatch
from fedcmp.client.prefetch import Ahead
from fedcmp.data.prepared import Batch, PreparedPairs
from fedcmp.distributed import Group


class StepBatches:
    """Every step's number and joint batch; may be iterated over again, and then reads the same pairs.

    Steps of which every picture turned out bad while it was read are left out. For a GPU the next batch is read while
    the last is computed.

    Args:
        pairs: where the batches come from.
        batches: each learner's positions of the pairs, one array a step.
        swapped: for each learner, pair -> the pair whose caption it carries.
        pad: of the captions.
        device: where the batches go.
        group: the ranks that divide every batch between them.
    """

    def __init__(
        self,
        pairs: PreparedPairs,
        batches: Sequence[Sequence[NDArray[np.int64]]],
        swapped: Sequence[dict[int, int]],
        *,
        pad: int,
        device: torch.device,
        group: Group,
    ) -> None:
        self._pairs, self._batches, self._swapped = pairs, batches, swapped
        self._pad, self._device, self._group = pad, device, group

    def __iter__(self) -> Iterator[tuple[int, JointBatch]]:
        return self.after(0)

    def after(self, first_step: int) -> Iterator[tuple[int, JointBatch]]:
        """The steps from `first_step` on."""
        count = max(map(len, self._batches)) - first_step
        with Ahead(lambda number: self._joint(first_step + number), count, depth=self._read_ahead()) as batches:
            for step, batch in enumerate(batches, start=first_step):
                if batch is not None:
                    yield step, batch

    def _read_ahead(self) -> int:
        """Batches that are read ahead: one for a GPU. None for a CPU, which a loader would only slow down, nor where
        ranks tell each other what they could read: what they say must stay in order.
        """
        return 1 if self._device.type == "cuda" and self._group.size == 1 else 0

    def _own(self, step: int) -> dict[int, Batch]:
        """This rank's samples of each learner that has a step left."""
        own = positions_of_rank(self._batches, step, self._group)
        return {number: self._pairs.batch(mine, self._swapped[number]) for number, mine in own.items()}

    def _joint(self, step: int) -> JointBatch | None:
        batches = self._own(step)
        counts_C2 = torch.zeros(len(self._batches), 2, dtype=torch.int64)
        for number, batch in batches.items():
            counts_C2[number, 0], counts_C2[number, 1] = len(batch.lengths), batch.lengths.sum()
        (counts_C2,) = self._group.sums([counts_C2])  # what a rank could not read is known only now
        usable = {number: batch for number, batch in batches.items() if counts_C2[number, 0]}
        if not usable:
            return None
        samples_A, tokens_A = counts_C2[list(usable)].unbind(1)
        return JointBatch.of(usable, pad=self._pad, device=self._device, samples_A=samples_A, tokens_A=tokens_A)


def positions_of_rank(
    batches_of_learners: Sequence[Sequence[NDArray[np.int64]]], step: int, group: Group
) -> dict[int, NDArray[np.int64]]:
    """Which pairs of a step one rank takes.

    Pairs are dealt one by one, as captions of a batch lie by length: ranks get like amounts of work, and their numbers
    of pairs in a step differ by at most one. Who is dealt the first changes from step to step.

    Args:
        batches_of_learners: each learner's batches of its part.
        step: from 0.
        group: the rank, and how many there are.

    Returns:
        Learner with a batch left -> this rank's positions of that batch, perhaps none.
    """
    own, dealt = {}, step
    for number, batches in enumerate(batches_of_learners):
        if step < len(batches):
            own[number] = batches[step][(group.rank - dealt) % group.size :: group.size]
            dealt += len(batches[step])
    return own
