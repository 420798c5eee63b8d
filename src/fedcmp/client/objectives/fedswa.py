"""FedSWA, the client's half: a learning rate that falls within every round and starts high again in the next.

    step i of I:   rate * (1 - i / I) + rate * rho * i / I          (Liu et al. 2025, cyclical rate)
`rate` is the run's schedule at the round's first step. The server's half is the aggregator "fedswa".
"""

from fedcmp.client.objectives.base import Objective
from fedcmp.client.objectives.registry import register_objective, require_positive


@register_objective(
    "fedswa", summary="a learning rate that falls within each round", paper="Liu et al. 2025, arXiv 2507.20016"
)
class FedSWA(Objective):
    """Cyclical local rate.

    Args:
        rho: the last step's rate as a share of the first's, above 0 and at most 1.
    """

    def __init__(self, *, rho: float = 0.1) -> None:
        self.rho = require_positive("rho", rho)
        if self.rho > 1:
            raise ValueError(f"rho = {rho}: must be at most 1; the rate falls within a round")

    def rates(self, rates: list[float]) -> list[float]:
        """From the highest of the round's rates down to rho times that."""
        high, steps = max(rates), len(rates)
        return [high * (1 - i / steps) + high * self.rho * i / steps for i in range(steps)]
