"""Arrays in one file with a checksum over all of them, for what can be computed anew: damaged is as good as missing."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from fedcmp.files import write_whole

Arrays = dict[str, NDArray[Any]]


def write_checked(path: Path, arrays: Arrays) -> None:
    """Write arrays and their checksum, whole or not at all.

    Raises:
        UserError: the file cannot be written.
    """
    write_whole(path, save(arrays, {"sha256": checksum(arrays)}))


def read_checked(path: Path) -> Arrays | None:
    """Read what `write_checked` wrote; None where there is no such file, or its bytes are not what was written."""
    try:
        content = path.read_bytes()
        arrays: Arrays = load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        return arrays if header["__metadata__"]["sha256"] == checksum(arrays) else None
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RecursionError):
        return None


def checksum(arrays: Arrays) -> str:
    """Return a sha256 over names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
