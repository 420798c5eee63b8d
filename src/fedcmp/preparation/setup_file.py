"""prepared/setup.json, written last: it says that the rest is there, and vouches for every file next to it.

It holds the hash of each file and one of itself, so that a flipped bit in a manifest or in tokens is found before it
changes a result. That of version 0.2.0 has none.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedcmp.checksums import Damaged, sealed, sha256, unsealed
from fedcmp.errors import UserError
from fedcmp.files import write_whole

SETUP = "setup.json"
_VOUCHED = ("manifest.json", "samples.json", "tokens-*.safetensors", "samples/*")


def write_setup(folder: Path, setup: Mapping[str, Any]) -> None:
    """Write setup.json next to the files that it vouches for."""
    found = sorted(path for pattern in _VOUCHED for path in folder.glob(pattern))
    files = {path.relative_to(folder).as_posix(): sha256(path.read_bytes()) for path in found}
    write_whole(folder / SETUP, json.dumps(sealed({**setup, "files": files})).encode())


def read_setup(folder: Path) -> dict[str, Any]:
    """Return what `write_setup` was given.

    Raises:
        UserError: names the file that is missing or not what was written.
    """
    path = folder / SETUP
    try:
        setup: dict[str, Any] = unsealed(json.loads(path.read_text(encoding="utf-8")))
        if not isinstance(setup, dict):
            raise Damaged("it holds no JSON object")
        for name, digest in dict(setup.pop("files", {})).items():
            path = folder / name
            if sha256(path.read_bytes()) != digest:
                raise Damaged("its content is not what was written: the checksum does not fit")
    except (OSError, ValueError, TypeError, RecursionError) as error:
        said = error.strerror if isinstance(error, OSError) else error
        raise UserError(
            f"{path}: damaged or missing ({said}); remove {folder}, then `fedcmp train RECIPE --resume` makes it again"
        ) from error
    return setup
