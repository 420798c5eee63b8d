"""Checks of the options that a method is created with: each message names the option, its value and what it takes."""

import math
from collections.abc import Iterable


def require_flag(option: str, value: object) -> None:
    """Refuse anything but True and False.

    Args:
        option: the option's name.
        value: what the user gave.

    Raises:
        ValueError: value is not a bool (the string "false" would count as true).
    """
    if not isinstance(value, bool):
        raise ValueError(f"{option} = {value!r}: must be true or false")


def require_choice(option: str, value: object, choices: Iterable[str]) -> None:
    """Refuse anything but one of the named choices.

    Args:
        option: the option's name.
        value: what the user gave.
        choices: the allowed strings.

    Raises:
        ValueError: value is none of them.
    """
    choices = list(choices)
    if value not in choices:
        raise ValueError(f"{option} = {value!r}: must be one of {', '.join(map(repr, choices))}")


def require_number(option: str, value: object, low: float, high: float = math.inf, *, above: bool = False) -> None:
    """Refuse anything but a number in [low, high], or in (low, high] with `above`.

    Args:
        option: the option's name.
        value: what the user gave.
        low: lower bound.
        high: upper bound; infinity lets infinity through.
        above: exclude the lower bound itself.

    Raises:
        ValueError: not a number, NaN, or outside.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not (low < value if above else low <= value) or not value <= high:  # type: ignore[operator]  # is_number says it
        bounds = f"{'above' if above else 'at least'} {low:g}" + (f" and at most {high:g}" if high < math.inf else "")
        raise ValueError(f"{option} = {value!r}: must be a number {bounds}")


def require_whole(option: str, value: object) -> None:
    """Refuse, with ValueError, anything but a whole number of at least 1."""
    require_number(option, value, 1)
    if not isinstance(value, int):
        raise ValueError(f"{option} = {value!r}: must be a whole number")
