"""FedAvgM: momentum on the clients' mean update.

    v = beta v + D,   theta = theta_g + eta v            D = sum_k (n_k / n) Delta_k,  v = 0 at first
Implements docs/methods.md, FedAvgM (Hsu et al. 2019, section 4.3).
"""

from torch import Tensor

from fedcmp.aggregation.options import require_number
from fedcmp.aggregation.registry import register
from fedcmp.aggregation.server_step import ServerStep


@register("fedavgm", summary="FedAvg with server momentum", paper="Hsu et al. 2019, arXiv 1909.06335")
class FedAvgM(ServerStep):
    """Server momentum.

    Args:
        momentum: beta in [0, 1].
        learning_rate: eta above 0.

    Raises:
        ValueError: an option out of range.
    """

    def __init__(self, *, momentum: float = 0.9, learning_rate: float = 1.0) -> None:
        require_number("momentum", momentum, 0, 1)
        require_number("learning_rate", learning_rate, 0, 1e6, above=True)
        super().__init__({"velocity": 0.0})
        self._momentum = momentum
        self._learning_rate = learning_rate

    def _step(self, mean: Tensor, *slots: Tensor) -> Tensor:
        (velocity,) = slots
        velocity.mul_(self._momentum).add_(mean)
        return velocity * self._learning_rate
