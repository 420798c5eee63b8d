"""FedAdam: Adam on the server, with the clients' mean update as its gradient.

    m = b1 m + (1 - b1) D            D = sum_k (n_k / n) Delta_k,  m = 0 at first
    v = b2 v + (1 - b2) D^2          v = tau^2 at first
    theta = theta_g + eta m / (sqrt v + tau)                                        no bias correction
Implements docs/methods.md, FedAdam (Reddi et al. 2021, Algorithm 2).
"""

from torch import Tensor

from fedcmp.aggregation.options import require_number
from fedcmp.aggregation.registry import register
from fedcmp.aggregation.server_step import ServerStep


@register("fedadam", summary="Adam on the mean update", paper="Reddi et al. 2021, arXiv 2003.00295")
class FedAdam(ServerStep):
    """Server Adam without bias correction.

    Args:
        learning_rate: eta above 0; about how far an entry moves in a round. To be tuned.
        beta_1: in [0, 1], how much of the first moment is kept.
        beta_2: in [0, 1], how much of the second moment is kept.
        tau: above 0; entries that move much less than tau are not sped up.

    Raises:
        ValueError: an option out of range.
    """

    def __init__(
        self, *, learning_rate: float = 0.01, beta_1: float = 0.9, beta_2: float = 0.99, tau: float = 1e-3
    ) -> None:
        require_number("learning_rate", learning_rate, 0, 1e6, above=True)
        require_number("beta_1", beta_1, 0, 1)
        require_number("beta_2", beta_2, 0, 1)
        require_number("tau", tau, 0, 1e6, above=True)
        super().__init__({"first_moment": 0.0, "second_moment": tau**2})
        self._learning_rate = learning_rate
        self._beta_1 = beta_1
        self._beta_2 = beta_2
        self._tau = tau

    def _step(self, mean: Tensor, *slots: Tensor) -> Tensor:
        first, second = slots
        first.mul_(self._beta_1).add_(mean, alpha=1 - self._beta_1)
        self._track(second, mean.square_())
        return first / second.sqrt().add_(self._tau) * self._learning_rate

    def _track(self, second: Tensor, square: Tensor) -> None:
        """Bring v up to date in place, given D^2."""
        second.mul_(self._beta_2).add_(square, alpha=1 - self._beta_2)
