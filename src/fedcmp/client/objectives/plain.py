"""Plain local training: the caption loss alone."""

from fedcmp.client.objectives.base import Objective
from fedcmp.client.objectives.registry import register_objective


@register_objective("plain", summary="the caption loss alone", paper="McMahan et al. 2017, arXiv 1602.05629")
class Plain(Objective):
    """Nothing beside the caption loss."""
