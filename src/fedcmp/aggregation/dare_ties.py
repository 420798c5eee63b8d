"""DARE-TIES: drop a random part of each client's update, scale up the rest, merge by TIES.

    theta = theta_g + lambda TIES(m_1 Delta_1 / (1 - p), ..., m_K Delta_K / (1 - p))     see dropping.py and voting.py
Implements docs/methods.md, DARE-TIES (Yu et al. 2024).
"""

from fedcmp.aggregation.dropping import DroppingRule
from fedcmp.aggregation.registry import register
from fedcmp.aggregation.ties import Ties


@register("dare-ties", summary="TIES of randomly thinned updates", paper="Yu et al. 2024, arXiv 2311.03099")
class DareTies(DroppingRule, Ties):
    """TIES of thinned updates; every client counts the same.

    Args:
        drop: p in [0, 0.9999]; 0 is TIES.
        density: share of a client's entries (dropped ones included) kept by magnitude, in (0, 1]; 1 leaves the choice
            to the dropping alone.
        scale: lambda above 0.
        seed: whole number; another seed, another choice.

    Raises:
        ValueError: an option out of range.
    """

    def __init__(self, *, drop: float = 0.5, density: float = 0.2, scale: float = 1.0, seed: int = 0) -> None:
        super().__init__(density=density, scale=scale)
        self._drop_out(drop=drop, seed=seed)
