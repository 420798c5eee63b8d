"""The table of local objectives: one row each.

To add one: write a file with an Objective subclass, put a row above the class, import the file in the package's
__init__. Its keyword arguments are the options of [method.NAME.objective_options].
"""

import difflib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from fedcmp.client.objectives.base import Objective

Kind = TypeVar("Kind", bound=Objective)
_LARGEST = 1e30  # what a float32 loss can be scaled with


@dataclass(frozen=True)
class ObjectiveRow:
    """One row of the table.

    Attributes:
        name: what recipes call it.
        summary: one line for people who choose.
        paper: where it comes from.
        factory: builds the objective from keyword options.
    """

    name: str
    summary: str
    paper: str
    factory: Callable[..., Objective]

    def options(self) -> dict[str, object]:
        """Option name -> default."""
        return {name: p.default for name, p in inspect.signature(self.factory).parameters.items()}


_OBJECTIVES: dict[str, ObjectiveRow] = {}


def register_objective(name: str, *, summary: str, paper: str) -> Callable[[type[Kind]], type[Kind]]:
    """Add a row to the table; used as a class decorator.

    Raises:
        ValueError: the name is taken.
    """

    def add_row(kind: type[Kind]) -> type[Kind]:
        if name in _OBJECTIVES:
            raise ValueError(f"objective {name!r} is registered twice")
        _OBJECTIVES[name] = ObjectiveRow(name, summary, paper, kind)
        return kind

    return add_row


def available_objectives() -> list[str]:
    """The names of all objectives, sorted."""
    return sorted(_OBJECTIVES)


def describe_objective(name: str) -> ObjectiveRow:
    """One row.

    Raises:
        ValueError: no such objective; the message lists what exists.
    """
    if name not in _OBJECTIVES:
        near = difflib.get_close_matches(name, _OBJECTIVES, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"unknown objective {name!r}; {hint}available: {', '.join(available_objectives())}")
    return _OBJECTIVES[name]


def create_objective(name: str, /, **options: object) -> Objective:
    """Build an objective by name.

    Raises:
        ValueError: unknown objective or option, or a value that the option does not take.
    """
    row = describe_objective(name)
    known = row.options()
    for option in options:
        if option not in known:
            takes = f"it takes: {', '.join(known)}" if known else "it takes no options"
            raise ValueError(f"objective {name!r} has no option {option!r}; {takes}")
    return row.factory(**options)


def require_positive(option: str, value: object) -> float:
    """Return a number above 0, or raise ValueError that names the option."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= _LARGEST:
        raise ValueError(f"{option} = {value!r}: must be a number above 0 and at most {_LARGEST:g}")
    return float(value)
