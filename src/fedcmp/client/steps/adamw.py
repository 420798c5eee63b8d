"""AdamW's own steps: the default."""

from fedcmp.client.local_round import LocalRound
from fedcmp.client.optimizer import Optimisation, StackedAdamW
from fedcmp.client.steps.base import Step
from fedcmp.client.steps.registry import register_step


@register_step("adamw", summary="AdamW", paper="Loshchilov & Hutter 2019, arXiv 1711.05101")
class AdamW(Step):
    """AdamW, coordinate by coordinate of the tensors themselves."""

    def optimizer(self, local: LocalRound, settings: Optimisation) -> StackedAdamW:
        """Return AdamW."""
        return StackedAdamW(local.cohort.parameters, settings)
