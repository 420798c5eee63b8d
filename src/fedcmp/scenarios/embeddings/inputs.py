"""What the shards of a folder are made of, so that no two collections or models mix in one folder."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedcmp.errors import UserError
from fedcmp.files import write_whole
from fedcmp.scenarios.embeddings.folder import FORMAT, INDEX

INPUTS = "inputs.json"
_ANEW = "give a new folder with --out"


@dataclass(frozen=True)
class EmbeddingInputs:
    """All that decides the shards' bytes but for rounding.

    Attributes:
        model: name, fingerprint, dtype.
        source: name, fingerprint, and how to open it again.
        max_pixels: larger pictures are bad pairs.
        shard_size: pairs a shard.
    """

    model: dict[str, str]
    source: dict[str, Any]
    max_pixels: int
    shard_size: int

    @property
    def key(self) -> str:
        """sha256 that names the embeddings."""
        known = [FORMAT, self.model["fingerprint"], self.source["fingerprint"], self.max_pixels, self.shard_size]
        return hashlib.sha256(json.dumps(known).encode()).hexdigest()

    def write(self, folder: Path) -> None:
        """Write inputs.json."""
        content = {
            "format": FORMAT,
            "key": self.key,
            "model": self.model,
            "source": self.source,
            "max_pixels": self.max_pixels,
            "shard_size": self.shard_size,
        }
        write_whole(folder / INPUTS, (json.dumps(content, indent=1) + "\n").encode())

    def check(self, folder: Path) -> None:
        """Refuse a folder that holds other embeddings.

        Raises:
            UserError: names the first difference.
        """
        begun = _read(folder)
        if begun is None:
            if (folder / INDEX).exists() or next(folder.glob("shard-*.safetensors"), None):
                raise UserError(f"{folder}: holds embeddings, but no {INPUTS} that says of what: {_ANEW}")
        elif begun.get("key") != self.key:
            raise UserError(f"{folder}: holds embeddings {self._difference(begun)}: {_ANEW}, or remove this one")

    def _difference(self, begun: dict[str, Any]) -> str:
        model, source = begun.get("model", {}), begun.get("source", {})
        if model.get("fingerprint") != self.model["fingerprint"]:
            if model.get("name") != self.model["name"]:
                return f"by the model {model.get('name')!r}, not {self.model['name']!r}"
            if model.get("dtype") != self.model["dtype"]:
                return f"in {model.get('dtype')}, not {self.model['dtype']} (--dtype)"
            return f"by {self.model['name']!r} with other weights or preprocessing"
        if source.get("fingerprint") != self.source["fingerprint"]:
            return f"of other pairs ({source.get('name')}) than {self.source['name']} holds now"
        if begun.get("shard_size") != self.shard_size:
            return f"in shards of {begun.get('shard_size')} pairs, not {self.shard_size} (--shard-size)"
        return f"with max_pixels = {begun.get('max_pixels')}, not {self.max_pixels}"


def begun_shard_size(folder: Path) -> int | None:
    """The shard size of embeddings that were begun in a folder; None if there are none."""
    size = (_read(folder) or {}).get("shard_size")
    return size if isinstance(size, int) and size > 0 else None


def _read(folder: Path) -> dict[str, Any] | None:
    try:
        content = json.loads((folder / INPUTS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{folder / INPUTS}: cannot be read ({error}): {_ANEW}") from None
    if not isinstance(content, dict):
        raise UserError(f"{folder / INPUTS}: says nothing of embeddings: {_ANEW}")
    return content
