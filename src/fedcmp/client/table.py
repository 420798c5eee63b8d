"""A table of what clients can be told to do by name: local objectives, steps. One row each."""

import difflib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

Base = TypeVar("Base")
Kind = TypeVar("Kind")


@dataclass(frozen=True)
class Row(Generic[Base]):
    """One row of a table.

    Attributes:
        name: what recipes call it.
        summary: one line for people who choose.
        paper: where it comes from.
        factory: builds it from keyword options.
        rate_factor: its learning rate over AdamW's, where a recipe names none (config/rates.py).
    """

    name: str
    summary: str
    paper: str
    factory: Callable[..., Base]
    rate_factor: float = 1.0

    def options(self) -> dict[str, object]:
        """Option name -> default."""
        return {name: p.default for name, p in inspect.signature(self.factory).parameters.items()}


class Table(Generic[Base]):
    """Rows by name.

    Args:
        what: what a row is called in messages: "step", say.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._rows: dict[str, Row[Base]] = {}

    def register(
        self, name: str, *, summary: str, paper: str, rate_factor: float = 1.0
    ) -> Callable[[type[Kind]], type[Kind]]:
        """Add a row to the table; used as a class decorator.

        Raises:
            ValueError: the name is taken.
        """

        def add_row(kind: type[Kind]) -> type[Kind]:
            if name in self._rows:
                raise ValueError(f"{self._what} {name!r} is registered twice")
            self._rows[name] = Row(name, summary, paper, kind, rate_factor)  # type: ignore[arg-type]  # Kind is a Base
            return kind

        return add_row

    def available(self) -> list[str]:
        """The names of all rows, sorted."""
        return sorted(self._rows)

    def describe(self, name: str) -> Row[Base]:
        """One row.

        Raises:
            ValueError: no such row; the message lists what exists.
        """
        if name not in self._rows:
            near = difflib.get_close_matches(name, self._rows, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ValueError(f"unknown {self._what} {name!r}; {hint}available: {', '.join(self.available())}")
        return self._rows[name]

    def create(self, name: str, /, **options: object) -> Base:
        """Build one by name.

        Raises:
            ValueError: unknown name or option, or a value that the option does not take.
        """
        row = self.describe(name)
        known = row.options()
        for option in options:
            if option not in known:
                takes = f"it takes: {', '.join(known)}" if known else "it takes no options"
                raise ValueError(f"{self._what} {name!r} has no option {option!r}; {takes}")
        return row.factory(**options)
