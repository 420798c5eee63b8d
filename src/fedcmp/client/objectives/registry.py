"""The table of local objectives: one row each.

To add one: write a file with an Objective subclass, put a row above the class, import the file in the package's
__init__. Its keyword arguments are the options of [method.NAME.objective_options].
"""

from fedcmp.client.objectives.base import Objective
from fedcmp.client.table import Row, Table

_LARGEST = 1e30  # what a float32 loss can be scaled with

ObjectiveRow = Row[Objective]
_OBJECTIVES: Table[Objective] = Table("objective")
register_objective, available_objectives = _OBJECTIVES.register, _OBJECTIVES.available
describe_objective, create_objective = _OBJECTIVES.describe, _OBJECTIVES.create


def require_positive(option: str, value: object) -> float:
    """Return a number above 0, or raise ValueError that names the option."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= _LARGEST:
        raise ValueError(f"{option} = {value!r}: must be a number above 0 and at most {_LARGEST:g}")
    return float(value)
