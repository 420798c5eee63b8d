"""The values of records, strict where they are written and lenient where they are read; what every record can do.

There are two ways to make a record. A writer calls the model: a wrong type, a missing or an unknown key is our mistake
and raises. `line()` is what is then written: keys that were not given are left out; NaN and infinity, which JSON lacks,
are null. A reader calls `from_line`: files are untrusted, so a key that is missing or of the wrong type becomes None or
empty, an unknown key is passed over, and a number that is not finite is kept, because it says that a run diverged.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Self, cast

from pydantic import BaseModel, ConfigDict

_LARGEST = 10**100


def number(value: object) -> float | None:
    """Return a JSON number as a float (beyond 1e100 as infinite), None for anything else, booleans included."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and math.isnan(value):
        return value
    if abs(value) >= _LARGEST:
        return math.inf if value > 0 else -math.inf
    return float(value)


def whole(value: object) -> int | None:
    """Return a JSON number without a fraction as an int, None for anything else."""
    given = number(value)
    return int(given) if given is not None and math.isfinite(given) and given == int(given) else None


def text(value: object, default: str = "") -> str:
    """Return a JSON string, halves of characters as "?" since no file holds them; the default for anything else."""
    if not isinstance(value, str):
        return default
    return value if value.isascii() else value.encode("utf-8", "replace").decode()


def table(value: object) -> Mapping[str, object]:
    """Return a JSON object, or an empty one for anything else."""
    return value if isinstance(value, Mapping) else {}


def numbers(value: object) -> dict[str, float]:
    """Return the entries of a JSON object that are numbers, in their order."""
    found = {text(str(key)): number(entry) for key, entry in table(value).items()}
    return {key: entry for key, entry in found.items() if entry is not None}


def counts(value: object) -> dict[str, int]:
    """Return the entries of a JSON object that are whole numbers, in their order."""
    found = {text(str(key)): whole(entry) for key, entry in table(value).items()}
    return {key: entry for key, entry in found.items() if entry is not None}


def texts(value: object) -> dict[str, str]:
    """Return the entries of a JSON object as strings, empty where they are none."""
    return {text(str(key)): text(entry) for key, entry in table(value).items()}


def names(value: object) -> list[str]:
    """Return the entries of a JSON list that are strings, in their order."""
    return [text(entry) for entry in value if isinstance(entry, str)] if isinstance(value, list) else []


@dataclass(frozen=True)
class Lenient:
    """Say how a reader makes a field of whatever a file holds under its key, or of None where it holds nothing."""

    read: Callable[[Any], Any]


Number = Annotated[float | None, Lenient(number)]
Whole = Annotated[int | None, Lenient(whole)]
Count = Annotated[int, Lenient(lambda value: whole(value) or 0)]
Text = Annotated[str, Lenient(text)]
Numbers = Annotated[dict[str, float], Lenient(numbers)]
Counts = Annotated[dict[str, int], Lenient(counts)]
Texts = Annotated[dict[str, str], Lenient(texts)]
Names = Annotated[list[str], Lenient(names)]
# absent of those who have no questions: written as null, read as empty
MaybeNumbers = Annotated[dict[str, float] | None, Lenient(numbers)]
MaybeCounts = Annotated[dict[str, int] | None, Lenient(counts)]


def finite(value: Any) -> Any:
    """Return a JSON-able value with None for every float that is not finite."""
    if isinstance(value, Mapping):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Record(BaseModel):
    """What every record can do; see the module's text for its two ways to be made."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    @classmethod
    def from_line(cls, line: Mapping[str, object]) -> Self:
        """Read a record from a file; never raises."""
        known: dict[str, Any] = {}
        for name, field in cls.model_fields.items():
            for lenient in (entry for entry in field.metadata if isinstance(entry, Lenient)):
                known[name] = lenient.read(line.get(name))
        return cast(Self, cls.model_construct(_fields_set=known.keys() & line.keys(), **known))

    def line(self) -> dict[str, Any]:
        """Return what is written: the kind and all keys that were given, with null for what is not finite."""
        kind = getattr(self, "kind", None)
        content: dict[str, Any] = finite(self.model_dump(exclude_unset=True))
        return content if kind is None else {"kind": kind} | content
