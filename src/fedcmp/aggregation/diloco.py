"""DiLoCo: an outer Nesterov step along the clients' mean update.

    v = beta v + D,   theta = theta_g + eta (D + beta v)     D = sum_k (n_k / n) Delta_k,  v = 0 at first
This is torch.optim.SGD(nesterov=True) with -D as its gradient, as in the paper.
Implements docs/methods.md, DiLoCo (Douillard et al. 2023, Algorithm 1).
"""

from torch import Tensor

from fedcmp.aggregation.options import require_number
from fedcmp.aggregation.registry import register
from fedcmp.aggregation.server_step import ServerStep


@register("diloco", summary="outer Nesterov step on the mean update", paper="Douillard et al. 2023, arXiv 2311.08105")
class DiLoCo(ServerStep):
    """Nesterov's momentum on the server.

    Args:
        momentum: beta in [0, 1].
        learning_rate: eta above 0, the outer learning rate.

    Raises:
        ValueError: an option out of range.
    """

    def __init__(self, *, momentum: float = 0.9, learning_rate: float = 0.7) -> None:
        require_number("momentum", momentum, 0, 1)
        require_number("learning_rate", learning_rate, 0, 1e6, above=True)
        super().__init__({"velocity": 0.0})
        self._momentum = momentum
        self._learning_rate = learning_rate

    def _step(self, mean: Tensor, *slots: Tensor) -> Tensor:
        (velocity,) = slots
        velocity.mul_(self._momentum).add_(mean)
        return mean.add_(velocity, alpha=self._momentum).mul_(self._learning_rate)
