"""Local objectives: what a client minimises beside the caption loss, one file each."""

from fedcmp.client.local_round import LocalRound
from fedcmp.client.objectives import fedprox, fedsam, fedswa, moon, plain, scaffold
from fedcmp.client.objectives.base import Objective
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

_FILES = (fedprox, fedsam, fedswa, moon, plain, scaffold)  # importing them fills the table
