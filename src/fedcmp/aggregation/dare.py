"""DARE with averaging: drop a random part of each client's update, scale up the rest, take the weighted mean.

    theta = theta_g + sum_k (n_k / n) m_k Delta_k / (1 - p)            m_k: see dropping.py
Implements docs/methods.md, DARE (Yu et al. 2024).
"""

from torch import Tensor

from fedcmp.aggregation.dropping import DroppingRule
from fedcmp.aggregation.registry import register
from fedcmp.aggregation.server_step import ServerStep


@register("dare", summary="FedAvg of randomly thinned updates", paper="Yu et al. 2024, arXiv 2311.03099")
class Dare(DroppingRule, ServerStep):
    """Weighted mean of thinned updates.

    Args:
        drop: p in [0, 0.9999]; 0 is FedAvg.
        seed: whole number; another seed, another choice.

    Raises:
        ValueError: an option out of range.
    """

    def __init__(self, *, drop: float = 0.5, seed: int = 0) -> None:
        super().__init__()
        self._drop_out(drop=drop, seed=seed)

    def _step(self, mean: Tensor, *slots: Tensor) -> Tensor:  # noqa: ARG002  # it has none
        return mean
