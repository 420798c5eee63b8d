"""FedSAM: steps by the gradient at the worst point near by (sharpness-aware minimisation).

    g <- gradient of the loss at  theta + rho * g / ||g||       (Qu et al. 2022, algorithm 1, lines 8 and 9)
It costs a second forward and backward pass a step.
"""

import torch

from fedcmp.client.cohort import Stacked
from fedcmp.client.objectives.base import Objective
from fedcmp.client.objectives.registry import register_objective, require_positive


@register_objective("fedsam", summary="local sharpness-aware steps", paper="Qu et al. 2022, arXiv 2206.02618")
class FedSAM(Objective):
    """Sharpness-aware local steps.

    Args:
        rho: how far to look, in Euclidean distance over the whole projector; above 0.
    """

    def __init__(self, *, rho: float = 0.05) -> None:
        self.rho = require_positive("rho", rho)

    def displacement(self, gradients: Stacked) -> Stacked:
        """rho * g / ||g|| for each learner."""
        norms_A = torch.stack([g.flatten(1).square().sum(1) for g in gradients.values()]).sum(0).sqrt()
        scale_A = self.rho / norms_A.clamp(min=1e-12)
        return {name: g * scale_A.view(-1, *[1] * (g.dim() - 1)) for name, g in gradients.items()}
