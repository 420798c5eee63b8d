"""How messages name their tensors in one flat dict, and how their JSON headers are checked.

joined(state={"w": a}, public={"basis": {"w": b}})   ->   {"state/w": a, "public/basis/w": b}
"""

from collections.abc import Mapping
from typing import Any, Literal, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from fedcmp.terminal import shortened, shown

VERSION: Literal[2] = 2
Tensors = dict[str, Tensor]
Labelled = dict[str, Tensors]  # label -> tensor name -> tensor


class MessageError(ValueError):
    """A message that this version did not make, or that was damaged on its way: in one line, as UserError."""

    def __init__(self, message: str) -> None:
        super().__init__(shortened(shown(message)))


class MessageHeader(BaseModel):
    """Base of all headers: unknown keys, missing ones and wrong types are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    version: Literal[2] = VERSION


AnyHeader = TypeVar("AnyHeader", bound=MessageHeader)


def joined(**parts: "Tensors | Labelled") -> Tensors:
    """Return one flat dict: "part/name" or "part/label/name"."""
    out: Tensors = {}
    for part, named in parts.items():
        for name, value in named.items():
            if isinstance(value, dict):
                if not name or "/" in name:
                    raise MessageError(f"{part}: {name!r} cannot be a label; a label is not empty and holds no '/'")
                out |= {f"{part}/{name}/{own}": tensor for own, tensor in value.items()}
            else:
                out[f"{part}/{name}"] = value
    return out


def parted(
    message: str, tensors: Mapping[str, Tensor], *, plain: tuple[str, ...], labelled: tuple[str, ...]
) -> tuple[dict[str, Tensors], dict[str, Labelled]]:
    """Reverse `joined`: parts of plain tensors, and parts of labelled ones.

    Raises:
        MessageError: a tensor that belongs to none of them.
    """
    parts: dict[str, Tensors] = {part: {} for part in plain}
    labels: dict[str, Labelled] = {part: {} for part in labelled}
    for entry, tensor in tensors.items():
        part, _, name = entry.partition("/")
        if not isinstance(tensor, torch.Tensor):
            raise MessageError(f"{message}: {entry!r} is {type(tensor).__name__}; it must be a tensor")
        if part in parts and name:
            parts[part][name] = tensor
            continue
        label, _, own = name.partition("/")
        if part not in labels or not label or not own:
            raise MessageError(f"{message}: tensor {entry!r} belongs to none of {', '.join((*plain, *labelled))}")
        labels[part].setdefault(label, {})[own] = tensor
    return parts, labels


def checked(kind: type[AnyHeader], header: Mapping[str, Any]) -> AnyHeader:
    """Return a header of that kind.

    Raises:
        MessageError: names the key that is missing, unknown or of a wrong type, or another version.
    """
    if not isinstance(header, Mapping):
        raise MessageError(f"header is {type(header).__name__}; it must be an object")
    found = header.get("version")
    if found != VERSION or isinstance(found, bool):
        said = found if isinstance(found, int | float | str) else type(found).__name__
        raise MessageError(f"version = {said!r}: this is version {VERSION}; use the same fedcmp on both sides")
    try:
        return kind.model_validate(dict(header))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "header"
        raise MessageError(f"{place}: {first['msg']}") from None
