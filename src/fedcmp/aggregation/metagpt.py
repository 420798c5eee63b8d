"""MetaGPT: each client's update is weighted by its own squared length.

    theta = theta_g + sum_k lambda_k Delta_k,     lambda_k = ||Delta_k||^2 / sum_j ||Delta_j||^2
with lengths over all tensors together.  Each client's weight is known when it arrives, so it stays one running sum.
Implements docs/methods.md, MetaGPT (Zhou et al. 2024).
"""

import math

from torch import Tensor

from fedcmp.aggregation.change import Change
from fedcmp.aggregation.registry import register
from fedcmp.aggregation.server_step import ServerStep
from fedcmp.aggregation.update import ClientUpdate


@register("metagpt", summary="updates weighted by their squared length", paper="Zhou et al. 2024, arXiv 2406.11385")
class MetaGPT(ServerStep):
    """Mean update weighted by squared lengths. It has no options and remembers nothing but the round's number."""

    def __init__(self) -> None:
        super().__init__()

    def _score(self, update: ClientUpdate, change: Change) -> float:
        squares = [math.fsum(float(delta.dot(delta)) for (delta,) in change.blocks(name)) for name in update.state]
        return math.fsum(squares)  # exact: a state that was read back may be in another order

    def _step(self, mean: Tensor, *slots: Tensor) -> Tensor:  # noqa: ARG002  # it has none
        return mean
