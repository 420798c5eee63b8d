"""Task arithmetic: the clients' updates are added up and scaled.

    theta = theta_g + lambda sum_k Delta_k          a sum, not a mean: sample counts do not matter
Implements docs/methods.md, task arithmetic (Ilharco et al. 2023).
"""

from torch import Tensor

from fedcmp.aggregation.change import Change
from fedcmp.aggregation.options import require_number
from fedcmp.aggregation.registry import register
from fedcmp.aggregation.server_step import ServerStep
from fedcmp.aggregation.update import ClientUpdate


@register("task-arithmetic", summary="scaled sum of the updates", paper="Ilharco et al. 2023, arXiv 2212.04089")
class TaskArithmetic(ServerStep):
    """Scaled sum.

    Args:
        scale: lambda above 0; 1 / K is the plain mean.

    Raises:
        ValueError: an option out of range.
    """

    def __init__(self, *, scale: float = 0.3) -> None:
        require_number("scale", scale, 0, 1e6, above=True)
        super().__init__()
        self._scale = scale

    def _score(self, update: ClientUpdate, change: Change) -> float:  # noqa: ARG002  # every client counts the same
        return 1.0

    def _step(self, mean: Tensor, *slots: Tensor) -> Tensor:  # noqa: ARG002  # it has none
        return mean.mul_(self._scale * self._accepted)
