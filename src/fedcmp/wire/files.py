"""A header and its tensors as one safetensors file, written whole or not at all.

The header is in the file's metadata, and with it a hash of header and tensors: a flipped bit is found when the file is
read. Both are one entry there, for safetensors writes several in any order. Files of version 0.2.0 have the header
alone, and are taken as they are.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from fedcmp.checksums import Damaged
from fedcmp.files import write_whole
from fedcmp.wire.frames import apart

_KEY, _HASH = "fedcmp", "sha256"  # of the metadata, and within it


def write_message(path: Path, header: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Write one file; on disk when this returns."""
    write_whole(path, _content(header, tensors))


def park_message(path: Path, header: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Write one file that outlives this process, but need not outlive a power failure: it is then found damaged."""
    write_whole(path, _content(header, tensors), durable=False)


def _content(header: dict[str, Any], tensors: dict[str, Tensor]) -> bytes:
    entry = {_HASH: message_hash(json.dumps(header), tensors), "header": header}
    content: bytes = save(apart(tensors), metadata={_KEY: json.dumps(entry)})
    return content


def read_message(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read what `write_message` wrote.

    Raises:
        ValueError: names the file that is missing or damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            entry: dict[str, Any] = json.loads((file.metadata() or {})[_KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        if not isinstance(entry, dict):
            raise Damaged("its metadata holds no JSON object")
        if entry.keys().isdisjoint((_HASH, "header")):
            return entry, tensors
        header: dict[str, Any] = entry["header"]
        if entry[_HASH] != message_hash(json.dumps(header), tensors):
            raise Damaged("its content is not what was written: the checksum does not fit")
        return header, tensors
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, RuntimeError, RecursionError) as error:
        raise ValueError(f"{path}: cannot be read ({error})") from error


def message_hash(header: str, tensors: Mapping[str, Tensor]) -> str:
    """Return a hash of a header and of named tensors: names, types, shapes and every bit.

    Args:
        header: as text.
        tensors: in any order, on any device.
    """
    found = hashlib.sha256(header.encode())
    for name, tensor in sorted(tensors.items()):
        found.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        plain = tensor.detach().cpu().contiguous().reshape(-1)
        if plain.numel():
            found.update(plain.view(torch.uint8).numpy().data)
    return found.hexdigest()
