"""The table of steps: one row each.

To add one: write a file with a Step subclass, put a row above the class, import the file in the package's __init__.
Its keyword arguments are the options of [method.NAME.step_options].
"""

import difflib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from fedcmp.client.steps.base import Step

Kind = TypeVar("Kind", bound=Step)


@dataclass(frozen=True)
class StepRow:
    """One row of the table.

    Attributes:
        name: what recipes call it.
        summary: one line for people who choose.
        paper: where it comes from.
        factory: builds the step from keyword options.
        rate_factor: its learning rate over AdamW's, where a recipe names none (config/rates.py).
    """

    name: str
    summary: str
    paper: str
    factory: Callable[..., Step]
    rate_factor: float = 1.0

    def options(self) -> dict[str, object]:
        """Option name -> default."""
        return {name: p.default for name, p in inspect.signature(self.factory).parameters.items()}


_STEPS: dict[str, StepRow] = {}


def register_step(
    name: str, *, summary: str, paper: str, rate_factor: float = 1.0
) -> Callable[[type[Kind]], type[Kind]]:
    """Add a row to the table; used as a class decorator.

    Raises:
        ValueError: the name is taken.
    """

    def add_row(kind: type[Kind]) -> type[Kind]:
        if name in _STEPS:
            raise ValueError(f"step {name!r} is registered twice")
        _STEPS[name] = StepRow(name, summary, paper, kind, rate_factor)
        return kind

    return add_row


def available_steps() -> list[str]:
    """The names of all steps, sorted."""
    return sorted(_STEPS)


def describe_step(name: str) -> StepRow:
    """One row.

    Raises:
        ValueError: no such step; the message lists what exists.
    """
    if name not in _STEPS:
        near = difflib.get_close_matches(name, _STEPS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"unknown step {name!r}; {hint}available: {', '.join(available_steps())}")
    return _STEPS[name]


def create_step(name: str, /, **options: object) -> Step:
    """Build a step by name.

    Raises:
        ValueError: unknown step or option, or a value that the option does not take.
    """
    row = describe_step(name)
    known = row.options()
    for option in options:
        if option not in known:
            takes = f"it takes: {', '.join(known)}" if known else "it takes no options"
            raise ValueError(f"step {name!r} has no option {option!r}; {takes}")
    return row.factory(**options)
