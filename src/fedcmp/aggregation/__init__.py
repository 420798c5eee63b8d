"""Server rules: many projectors in, one out. Tensor maths only; see docs/methods.md for the formulas.

from fedcmp.aggregation import ClientUpdate, create

aggregator = create("fedcmp-published", rank=16, tail="average")
merged = aggregator.aggregate(global_state, [ClientUpdate(state, num_examples=1000, alignment_error=0.8), ...])
"""

from fedcmp.aggregation.base import Aggregator, ClientUpdate
from fedcmp.aggregation.fedavg import FedAvg
from fedcmp.aggregation.fedcmp import FedCMP
from fedcmp.aggregation.registry import Method, available, create, describe, register

__all__ = [
    "Aggregator",
    "ClientUpdate",
    "FedAvg",
    "FedCMP",
    "Method",
    "available",
    "create",
    "describe",
    "register",
]
