"""The manifest, the file of a run's partition: which client trains on which pairs, and with which captions."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedcmp.errors import UserError

Indices = NDArray[np.int64]
_FORMAT = 1


@dataclass(frozen=True)
class Manifest:
    """A run's partition.

    Attributes:
        names: of the K clients.
        holdings: per client, the indices of its pairs, ascending.
        swapped: pair -> the pair whose caption it carries instead of its own (wrong captions, a harder world).
        parts: per client, its pairs of each round in the order of training; None: an order that the seed gives.
    """

    names: list[str]
    holdings: list[Indices]
    swapped: dict[int, int]
    parts: list[list[Indices]] | None = None

    def content(self) -> dict[str, object]:
        """As plain JSON."""
        clients: list[dict[str, object]] = [
            {"name": name, "pairs": pairs.tolist()} for name, pairs in zip(self.names, self.holdings, strict=True)
        ]
        for client, parts in zip(clients, self.parts or [], strict=False):
            client["rounds"] = [part.tolist() for part in parts]
        return {
            "format": _FORMAT,
            "clients": clients,
            "swapped": {str(pair): source for pair, source in sorted(self.swapped.items())},
        }

    def hash(self) -> str:
        """sha256 of the content."""
        return hashlib.sha256(json.dumps(self.content(), sort_keys=True).encode()).hexdigest()

    @classmethod
    def read(cls, path: Path) -> "Manifest":
        """From a file that `content` was written to.

        Raises:
            UserError: the file is missing or no manifest.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            clients = content["clients"]
            return cls(
                [client["name"] for client in clients],
                [np.array(client["pairs"], np.int64) for client in clients],
                {int(pair): int(source) for pair, source in content["swapped"].items()},
                [[np.array(part, np.int64) for part in client["rounds"]] for client in clients]
                if all("rounds" in client for client in clients)
                else None,
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise UserError(
                f"{path}: not a readable manifest ({error}); start the run again with --overwrite"
            ) from error
