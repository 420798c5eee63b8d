"""Random integers that never change: splitmix64 of (seed, index, slot).

A scene's content depends on its seed and index alone: not on the batch it was made in, not on the order, and not on a
library's generator, whose stream may change between releases. Integer arithmetic only, hence equal on every machine.
"""

import numpy as np
from numpy.typing import NDArray

SLOTS_PER_INDEX = 64
_GOLDEN, _OFFSET, _MASK = 0x9E3779B97F4A7C15, 0x632BE59BD9B4E019, 2**64 - 1


def random_integers(seed: int, indices: NDArray[np.int64], slots: int = 48) -> NDArray[np.int64]:
    """Draw `slots` non-negative integers below 2**31 for each index.

    Args:
        seed: the stream; two seeds share no draws.
        indices: (n,) indices of the scenes, at least 0.
        slots: draws an index, at most 64.

    Returns:
        (n, slots) int64; entry [i, j] is a function of (seed, indices[i], j) only.
    """
    if not 0 < slots <= SLOTS_PER_INDEX:
        raise ValueError(f"slots = {slots}: must be between 1 and {SLOTS_PER_INDEX}")
    with np.errstate(over="ignore"):
        # seed times the golden ratio is mixed once more, so that neighbouring seeds do not give shifted copies
        start = np.uint64(_mix((seed * _GOLDEN + _OFFSET) & _MASK))
        counter = np.asarray(indices, np.uint64)[:, None] * np.uint64(SLOTS_PER_INDEX)
        steps = counter + np.arange(slots, dtype=np.uint64) + start
        x: NDArray[np.uint64] = np.multiply(steps, np.uint64(_GOLDEN), dtype=np.uint64)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        draws: NDArray[np.int64] = ((x ^ (x >> np.uint64(31))) >> np.uint64(33)).astype(np.int64)
        return draws


def _mix(x: int) -> int:
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)
