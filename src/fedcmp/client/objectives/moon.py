"""MOON: visual tokens near those of the global projector, far from those of the client's own last one.

    loss + mu * mean over samples of  -log( e^{cos(z, z_g)/T} / (e^{cos(z, z_g)/T} + e^{cos(z, z_prev)/T}) )
z is the mean projected visual token of a sample, z_g the global projector's, z_prev that of the client's projector at
the end of its last round (Li et al. 2021, equation 3). A client in its first round has no last projector: no term.
"""

import torch
from torch import Tensor
from torch.nn import functional

from fedcmp.client.cohort import JointBatch
from fedcmp.client.local_round import LocalRound
from fedcmp.client.objectives.base import Objective, mean_token
from fedcmp.client.objectives.registry import register_objective, require_positive

_LAST = "last_projector"


@register_objective(
    "moon", summary="contrast with the global and the client's last projector", paper="Li et al. 2021, arXiv 2103.16257"
)
class Moon(Objective):
    """Model-contrastive term.

    Args:
        mu: its strength, above 0.
        temperature: T, above 0.
    """

    def __init__(self, *, mu: float = 1.0, temperature: float = 0.5) -> None:
        self.mu = require_positive("mu", mu)
        self.temperature = require_positive("temperature", temperature)

    def penalty(self, local: LocalRound, batch: JointBatch, visual_ABPD: Tensor) -> Tensor | None:
        """The contrast, averaged over each learner's samples."""
        remembers_A = local.remembers_C[batch.learners_A]
        if not bool(remembers_A.any()):
            return None
        cohort = local.cohort
        with torch.no_grad():
            global_ABD = mean_token(cohort.project(cohort.starts, batch))
            last_ABD = mean_token(cohort.project(local.memory[_LAST], batch))
        own_ABD = mean_token(visual_ABPD)
        near_AB = functional.cosine_similarity(own_ABD, global_ABD, dim=-1) / self.temperature
        far_AB = functional.cosine_similarity(own_ABD, last_ABD, dim=-1) / self.temperature
        contrast_AB = functional.softplus(far_AB - near_AB) * batch.present_AB  # -log of the softmax's first entry
        mean_A = contrast_AB.sum(1) / batch.present_AB.sum(1).clamp(min=1)  # a rank may have none of a learner's
        return self.mu * mean_A * remembers_A.to(mean_A)

    def end(self, local: LocalRound) -> None:
        """Keep the projector for the next round."""
        local.memory[_LAST] = {name: tensor.detach() for name, tensor in local.cohort.parameters.items()}
