"""Steps: how a client moves along its gradients, one file each."""

from fedcmp.client.steps import (
    adamw,
    canonical,
    fedadamw,
    fedmuon,
    fedmuon_liu,
    fedpac_soap,
    foof,
    muon,
    newton_muon,
    soap,
)
from fedcmp.client.steps.base import Step
from fedcmp.client.steps.registry import (
    StepRow,
    available_steps,
    create_step,
    describe_step,
    register_step,
)

__all__ = [
    "Step",
    "StepRow",
    "available_steps",
    "create_step",
    "describe_step",
    "register_step",
]

# importing them fills the table
_FILES = (adamw, canonical, fedadamw, fedmuon, fedmuon_liu, fedpac_soap, foof, muon, newton_muon, soap)
