"""Explain the keys of a recipe: meaning, values and default of each, read from the typed recipe itself."""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from fedcmp.config.catalogue import aggregators, objectives, steps
from fedcmp.config.methods import NOT_FEDERATED, available_methods, choose, describe_method
from fedcmp.errors import UserError

_SIGNS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "below {}",
    "minLength": "not empty",
    "minItems": "not empty",
    "pattern": "matching {}",
}
_TYPES = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false", "path": "path"}


@dataclass(frozen=True)
class Key:
    """Describe one key of a recipe.

    Attributes:
        place: as in "federation.rounds"; NAME stands for a name that people choose, [] for an entry of a list.
        type: the values that it takes, in words.
        default: as TOML writes it, "" for none.
        required: whether it must be given.
        meaning: one line.
    """

    place: str
    type: str
    default: str
    required: bool
    meaning: str

    @property
    def section(self) -> str:
        """Return the place without the key's own name."""
        return self.place.rpartition(".")[0]


def recipe_keys(recipe: type[BaseModel]) -> list[Key]:
    """Return every key of a recipe's model, section by section."""
    schema = recipe.model_json_schema()
    return list(_keys(schema, schema.get("$defs", {}), ""))


def sections(recipe: type[BaseModel]) -> dict[str, str]:
    """Return section -> its own description, in the recipe's order."""
    schema = recipe.model_json_schema()
    return dict(_described(schema, schema.get("$defs", {}), ""))


def method_options(name: str) -> dict[str, dict[str, object]]:
    """Return "options", "objective_options" and "step_options" of a method, each option with its default.

    Args:
        name: one of fedcmp.config.methods.available_methods().
    """
    if name in NOT_FEDERATED:
        return {}
    chosen = choose(name)
    found = {
        "options": {**aggregators()[chosen.aggregator].options, **chosen.options},
        "objective_options": objectives()[chosen.objective].options,
        "step_options": steps()[chosen.step].options,
    }
    return {table: dict(options) for table, options in found.items() if options}


def find_keys(recipe: type[BaseModel], wanted: str) -> list[Key]:
    """Return the key of that name, or all keys of that section, or those of that last name.

    Raises:
        UserError: there is none; names the nearest.
    """
    known = recipe_keys(recipe)
    place = wanted.strip().strip("[]")
    exact = [key for key in known if _same(key.place, place)]
    inside = [key for key in known if any(_same(part, place) for part in _above(key.place))]
    found = exact or inside or [key for key in known if key.place.rpartition(".")[2] == place]
    if found:
        return found
    names = [key.place for key in known] + [key.place.rpartition(".")[2] for key in known] + list(sections(recipe))
    names += available_methods()
    near = difflib.get_close_matches(place, names, n=1)
    hint = f"did you mean {near[0]}?" if near else "`fedcmp config` lists all"
    raise UserError(f"{wanted}: a recipe has no such key; {hint}")


def method_lines(name: str) -> list[str]:
    """Return what a method is, and its options with their defaults, for a terminal."""
    summary, paper = describe_method(name)
    lines = [f"{name}: {summary}" + (f" ({paper})" if paper else "")]
    for table, options in method_options(name).items():
        lines += [f"method.{name}.{table}.{option} = {toml_value(value)}" for option, value in options.items()]
    return lines


def toml_value(value: object) -> str:
    """Return a value as a recipe writes it; "none" where a recipe would leave the key out."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml_value, value))}]"
    if isinstance(value, dict):
        return (
            "{ " + ", ".join(f"{key} = {toml_value(inner)}" for key, inner in value.items()) + " }" if value else "{}"
        )
    return repr(value)


def _same(place: str, typed: str) -> bool:
    """Return whether what was typed is this place; any name stands for NAME."""
    ours, theirs = place.replace("[]", "").split("."), typed.replace("[]", "").split(".")
    return len(ours) == len(theirs) and all(a in ("NAME", b) for a, b in zip(ours, theirs, strict=True))


def _above(place: str) -> Iterator[str]:
    parts = place.split(".")
    for count in range(1, len(parts)):
        yield ".".join(parts[:count])


def _keys(schema: dict[str, Any], known: dict[str, Any], prefix: str) -> Iterator[Key]:
    required = schema.get("required", [])
    for key, value in schema.get("properties", {}).items():
        inner = list(_sections(value, known))
        if not inner:
            default = toml_value(value["default"]) if value.get("default") is not None else ""
            yield Key(
                f"{prefix}{key}",
                _type(value),
                default,
                key in required,
                " ".join(str(value.get("description", "")).split()),
            )
        for within, section in inner:
            yield from _keys(section, known, f"{prefix}{key}{within}.")


def _described(schema: dict[str, Any], known: dict[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in schema.get("properties", {}).items():
        for within, section in _sections(value, known):
            place = f"{prefix}{key}{within}"
            yield place, str(section.get("description", "")).partition("\n\n")[0]
            yield from _described(section, known, f"{place}.")


def _sections(value: dict[str, Any], known: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for one in value.get("anyOf", [value]):
        for within, inner in (("", one), (".NAME", one.get("additionalProperties")), ("[]", one.get("items"))):
            if isinstance(inner, dict) and "$ref" in inner:
                section = known[inner["$ref"].rpartition("/")[2]]
                if "properties" in section:
                    yield within, section


def _type(value: Any) -> str:
    if not isinstance(value, dict) or not value:
        return "any"
    if "anyOf" in value:
        return " or ".join(dict.fromkeys(_type(one) for one in value["anyOf"] if one.get("type") != "null"))
    if "enum" in value or "const" in value:
        return ", ".join(toml_value(one) for one in value.get("enum", [value.get("const")]))
    if value.get("type") == "array":
        return f"list of {_type(value.get('items'))}{_bounds(value)}"
    if value.get("type") == "object":
        inner = value.get("additionalProperties")
        return "table" if inner in (None, True) else f"table of {_type(inner)}"
    name = str(value.get("format", value.get("type", "any")))
    return f"{_TYPES.get(name, name)}{_bounds(value)}"


def _bounds(value: dict[str, Any]) -> str:
    found = [text.format(value[sign]) for sign, text in _SIGNS.items() if sign in value]
    return ", " + ", ".join(dict.fromkeys(found)) if found else ""
