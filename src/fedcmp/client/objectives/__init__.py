"""Local objectives: what a client minimises beside the caption loss, one file each."""

from fedcmp.client.objectives import canonical, fedprox, fedsam, fedswa, moon, plain, scaffold
from fedcmp.client.objectives.base import LocalRound, Objective
from fedcmp.client.objectives.registry import (
    ObjectiveRow,
    available_objectives,
    create_objective,
    describe_objective,
    register_objective,
)

__all__ = [
    "LocalRound",
    "Objective",
    "ObjectiveRow",
    "available_objectives",
    "create_objective",
    "describe_objective",
    "register_objective",
]

_FILES = (canonical, fedprox, fedsam, fedswa, moon, plain, scaffold)  # importing them fills the table
