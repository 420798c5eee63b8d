"""One learner's part trained alone, for peers and tests that have loops of their own."""

from collections.abc import Callable

from torch import Tensor

from fedcmp.client.optimizer import Optimisation
from fedcmp.client.parts import Learner, Part, Trained
from fedcmp.client.training import train_cohort
from fedcmp.data.prepared import PreparedPairs
from fedcmp.model.vlm import VLM

Tensors = dict[str, Tensor]


def train_part(
    vlm: VLM,
    pairs: PreparedPairs,
    part: Part,
    start: Tensors,
    settings: Optimisation,
    *,
    optimizer_state: Tensors | None = None,
    with_second_moment: bool = False,
    on_step: Callable[[int, float], None] | None = None,
) -> Trained:
    """Train one learner for one epoch over a part: a cohort of one; see `train_cohort`."""
    learner = Learner(part, start, optimizer_state)
    return train_cohort(vlm, pairs, [learner], settings, with_second_moment=with_second_moment, on_step=on_step)[0]
