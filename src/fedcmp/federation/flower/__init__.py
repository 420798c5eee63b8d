"""What goes through Flower: a strategy that merges by any rule of ours, and a client's few lines, for your own app.

from fedcmp.aggregation import create
from fedcmp.federation.flower import AggregatorStrategy, local_update

Flower is an optional library: the names below load it when they are asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

from fedcmp.extras import require

if TYPE_CHECKING:
    from fedcmp.federation.flower.arrays import array_record, tensors_of
    from fedcmp.federation.flower.local import load_arrays, local_optimizer, local_update
    from fedcmp.federation.flower.local_grid import LocalGrid, run_locally
    from fedcmp.federation.flower.own_training import carry_out
    from fedcmp.federation.flower.records import Asked, public_of, reply_content
    from fedcmp.federation.flower.strategy import AggregatorStrategy

__all__ = [
    "AggregatorStrategy",
    "Asked",
    "LocalGrid",
    "array_record",
    "carry_out",
    "load_arrays",
    "local_optimizer",
    "local_update",
    "public_of",
    "reply_content",
    "run_locally",
    "tensors_of",
]

_FILES = {
    "AggregatorStrategy": "strategy",
    "Asked": "records",
    "LocalGrid": "local_grid",
    "array_record": "arrays",
    "carry_out": "own_training",
    "load_arrays": "local",
    "local_optimizer": "local",
    "local_update": "local",
    "public_of": "records",
    "reply_content": "records",
    "run_locally": "local_grid",
    "tensors_of": "arrays",
}


def __getattr__(name: str) -> Any:
    if name not in _FILES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    require("flwr", "deployment", __name__)
    return getattr(importlib.import_module(f"{__name__}.{_FILES[name]}"), name)
