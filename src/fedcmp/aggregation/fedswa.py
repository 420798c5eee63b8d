"""FedSWA, the server's half: a step of more than 1 along the mean update.

    theta = theta_g + alpha (sum_k (n_k / n) theta_k - theta_g)
The clients' half is a learning rate that falls within each round.
Implements docs/methods.md, FedSWA (Liu et al. 2025).
"""

from torch import Tensor

from fedcmp.aggregation.options import require_number
from fedcmp.aggregation.registry import register
from fedcmp.aggregation.server_step import ServerStep


@register(
    "fedswa",
    summary="mean update times alpha; clients' rates fall within the round",
    paper="Liu et al. 2025, arXiv 2507.20016",
)
class FedSWA(ServerStep):
    """A moving average of the rounds' means for alpha < 1, a step beyond the mean for alpha > 1.

    Args:
        alpha: above 0; 1 is FedAvg.

    Raises:
        ValueError: an option out of range.
    """

    def __init__(self, *, alpha: float = 1.5) -> None:
        require_number("alpha", alpha, 0, 1e6, above=True)
        super().__init__()
        self._alpha = alpha

    def _step(self, mean: Tensor, *slots: Tensor) -> Tensor:  # noqa: ARG002  # it has none
        return mean.mul_(self._alpha)
