"""The table of methods: one row each, and the two calls that read it.

To add a method: write one file with an Aggregator subclass, put a row above the class,

    @register("trimmed", summary="mean without the extremes", paper="Yin et al. 2018, arXiv 1803.01498")
    class Trimmed(Aggregator): ...

and import the file in the package's __init__.  A class may have several rows: presets that differ in `defaults`.
"""

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeVar

from fedcmp.aggregation.base import Aggregator

RuleClass = TypeVar("RuleClass", bound=Aggregator)


@dataclass(frozen=True)
class RuleRow:
    """One row of the table.

    Attributes:
        name: what recipes and `create` call it.
        summary: one line for people who choose.
        paper: where the rule comes from.
        factory: builds the aggregator from keyword options.
        defaults: options that this row sets; a user's options override them.
        rate_factor: its clients' learning rate over FedAvg's, where a recipe names none (config/rates.py).
    """

    name: str
    summary: str
    paper: str
    factory: Callable[..., Aggregator]
    defaults: Mapping[str, object] = field(default_factory=dict)
    rate_factor: float = 1.0

    def options(self) -> dict[str, object]:
        """Return every option of the method with the value that it has unless overridden.

        Returns:
            Option name -> default, in the factory's order.
        """
        parameters = inspect.signature(self.factory).parameters
        return {name: self.defaults.get(name, parameter.default) for name, parameter in parameters.items()}


_ROWS: dict[str, RuleRow] = {}


def register(
    name: str, *, summary: str, paper: str, defaults: Mapping[str, object] | None = None, rate_factor: float = 1.0
) -> Callable[[type[RuleClass]], type[RuleClass]]:
    """Add a row to the table; used as a class decorator.

    Args:
        name: the method's name, not taken yet.
        summary: one line for people who choose.
        paper: where the rule comes from.
        defaults: options that this row sets.
        rate_factor: see RuleRow.

    Returns:
        The decorator, which hands the class back unchanged.

    Raises:
        ValueError: the name is taken.
    """

    def add_row(rule: type[RuleClass]) -> type[RuleClass]:
        if name in _ROWS:
            raise ValueError(f"method {name!r} is registered twice")
        _ROWS[name] = RuleRow(name, summary, paper, rule, MappingProxyType(dict(defaults or {})), rate_factor)
        return rule

    return add_row


def available() -> list[str]:
    """Return the names of all methods, sorted."""
    return sorted(_ROWS)


def describe(name: str) -> RuleRow:
    """Return a method's row.

    Args:
        name: one of available().

    Returns:
        The row: summary, paper, factory, defaults.

    Raises:
        ValueError: no such method; the message lists what exists.
    """
    if name not in _ROWS:
        raise ValueError(f"unknown method {name!r}; {_suggest(name, _ROWS)}available: {', '.join(available())}")
    return _ROWS[name]


def create(name: str, /, **options: object) -> Aggregator:
    """Build an aggregator by name.

    Args:
        name: one of available().
        **options: the method's options; each overrides the row's default.

    Returns:
        A fresh aggregator, before its first round.

    Raises:
        ValueError: unknown method, unknown option, a value that the option does not take, an impossible combination.
    """
    row = describe(name)
    known = row.options()
    for option in options:
        if option not in known:
            takes = f"it takes: {', '.join(known)}" if known else "it takes no options"
            raise ValueError(f"method {name!r} has no option {option!r}; {_suggest(option, known)}{takes}")
    return row.factory(**{**row.defaults, **options})


def _suggest(name: str, existing: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(existing), n=1)
    return f"did you mean {close[0]!r}? " if close else ""
