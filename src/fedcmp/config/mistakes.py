"""A recipe's first mistake, reported in one line."""

import difflib
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

_LONGEST_VALUE = 200


def first_mistake(error: ValidationError, content: dict[str, Any], recipe: type[BaseModel]) -> str:
    """Return the place, what is wrong, and how to fix it where that is known.

    Args:
        error: what pydantic found.
        content: the parsed TOML that it found it in.
        recipe: the model of a whole recipe, for the keys that are known at a place.
    """
    # a mistyped key first: it may be why another one is missing
    # then a number out of bounds: where a list may stand too, it is one mistake of two
    order = {"extra_forbidden": 0, "less_than_equal": 1, "greater_than_equal": 1}
    first = min(error.errors(), key=lambda mistake: order.get(mistake["type"], 2))
    location = _location(first["loc"], content)
    place = ".".join(map(str, location))
    if first["type"] == "extra_forbidden":
        known = _keys_at(recipe, location[:-1])
        near = difflib.get_close_matches(str(location[-1]), known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known keys here: {', '.join(known)}"
        return f"{place}: unknown key; {hint}"
    if first["type"] == "missing":
        return f"{'.'.join([*filter(None, [place]), str(first['loc'][-1])])}: missing"
    message = (
        first["msg"].removeprefix("Value error, ").replace("Input should", "must").replace("String should", "must")
    )
    message = message.replace("greater than or equal to", "at least").replace("less than or equal to", "at most")
    if not place:
        return message
    if first["type"] == "path_type":
        message = "must be a path" + (" or a list of paths" if location[-1] == "pairs" else "")
    elif first["type"] == "list_type":
        message = 'must be a list, such as ["a", "b"] or [1, 2]'
    elif first["type"] in ("model_type", "dict_type"):
        message = f"must be a table, as [{place}] begins one"
    return f"{place} = {_brief(first['input'])}: {message[0].lower()}{message[1:]}"


def _brief(value: Any) -> str:
    """Return a value as Python writes it, its end left out where it is long."""
    try:
        text = repr(value)
    except ValueError:  # a number of thousands of digits
        return "a number with thousands of digits"
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


def _location(parts: tuple[int | str, ...], content: Any) -> list[int | str]:
    """Return the keys among an error's parts that are in the content; pydantic adds names of a union's members."""
    keys: list[int | str] = []
    for part in parts:
        inside = part in content if isinstance(content, dict) else isinstance(content, list) and isinstance(part, int)
        if inside:
            content = content[part]
            keys.append(part)
    return keys


def _keys_at(model: type[BaseModel], location: list[int | str]) -> list[str]:
    """Return the keys of the section that a location leads to; lists and tables of sections are looked through."""
    for part in location:
        field = model.model_fields.get(str(part))
        for inner in (field.annotation, *get_args(field.annotation)) if field else ():
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                model = inner
    return list(model.model_fields)
