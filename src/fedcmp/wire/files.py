"""A header and its tensors as one safetensors file, written whole or not at all; the header is in its metadata."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from fedcmp.files import write_whole
from fedcmp.wire.frames import apart

_KEY = "fedcmp"


def write_message(path: Path, header: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Write one file; on disk when this returns."""
    write_whole(path, _content(header, tensors))


def park_message(path: Path, header: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Write one file that this very process reads again: it need not outlive a power failure."""
    path.write_bytes(_content(header, tensors))


def _content(header: dict[str, Any], tensors: dict[str, Tensor]) -> bytes:
    content: bytes = save(apart(tensors), metadata={_KEY: json.dumps(header)})
    return content


def read_message(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read what `write_message` wrote.

    Raises:
        ValueError: names the file that is missing or damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            header: dict[str, Any] = json.loads((file.metadata() or {})[_KEY])
            return header, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read ({error})") from error
