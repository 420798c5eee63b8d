"""Keys that occur more than once are numbered: key, key#2, key#3, ... whichever is free."""

import hashlib
from array import array
from collections.abc import Callable

import numpy as np


class RepeatedKeys:
    """Finds which keys occur more than once, in 8 bytes a pair until that is known."""

    def __init__(self) -> None:
        self._hashes, self._numbered = array("Q"), array("Q")

    def add(self, key: str) -> None:
        """Take in the next pair's key."""
        if "#" in key:  # may look like another's number
            self._numbered.append(len(self._hashes))
        self._hashes.append(_hash(key))

    def occurrences(self, key_of: Callable[[int], str]) -> dict[int, int]:
        """Return index -> which occurrence of its key it is, where that is not the first: the first free number."""
        hashes = np.frombuffer(self._hashes, np.uint64) if self._hashes else np.empty(0, np.uint64)
        values, counts = np.unique(hashes, return_counts=True)
        repeated = np.flatnonzero(np.isin(hashes, values[counts > 1]))
        if not len(repeated):
            return {}
        found: dict[int, int] = {}
        last: dict[str, int] = {}
        for index in np.union1d(repeated, np.array(self._numbered, np.int64)).tolist():
            key = key_of(index)
            occurrence = last.get(key, 0) + 1
            if occurrence > 1:
                while f"{key}#{occurrence}" in last:
                    occurrence += 1
                last[f"{key}#{occurrence}"] = 1
                found[index] = occurrence
            last[key] = occurrence
        return found


def _hash(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little")
