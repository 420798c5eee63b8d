"""FedProx: stay near the global projector.

loss + mu / 2 * ||theta - theta_g||^2        (squared, as in the paper's equation 2)
"""

from torch import Tensor

from fedcmp.client.cohort import JointBatch, pick
from fedcmp.client.local_round import LocalRound
from fedcmp.client.objectives.base import Objective, squared_distance
from fedcmp.client.objectives.registry import register_objective, require_positive


@register_objective(
    "fedprox", summary="penalty on the distance from the global projector", paper="Li et al. 2020, arXiv 1812.06127"
)
class FedProx(Objective):
    """Proximal term.

    Args:
        mu: its strength, above 0.
    """

    def __init__(self, *, mu: float = 0.01) -> None:
        self.mu = require_positive("mu", mu)

    def penalty(self, local: LocalRound, batch: JointBatch, visual_ABPD: Tensor) -> Tensor:
        """mu / 2 * ||theta - theta_g||^2."""
        del visual_ABPD
        cohort, learners_A = local.cohort, batch.learners_A
        moved = squared_distance(pick(cohort.parameters, learners_A), pick(cohort.starts, learners_A))
        return self.mu / 2 * moved
