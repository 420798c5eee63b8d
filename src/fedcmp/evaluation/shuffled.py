"""The shuffled reference: a projector is fed the features of another image than the caption describes.

    caption i of N is scored with the image pi(i),   pi one cycle through all N, so that pi(i) != i

What a model has learned about the captions' style it keeps with any image; what it loses here, it had seen in its own.
The same N pairs are always shuffled alike, whatever method and seed are judged. Unlike the blind LLM and the untrained
projector, this reference is another one for every projector.
"""

import numpy as np
from numpy.typing import NDArray

_SEED = 20260327  # any fixed number


def derangement(count: int, *, seed: int = _SEED) -> NDArray[np.int64]:
    """Return a permutation that leaves nothing in its place: a random cycle.

    Args:
        count: N, at least 2.
        seed: of the cycle.

    Returns:
        (N,) whose image the caption of each pair gets.

    Raises:
        ValueError: count < 2.
    """
    if count < 2:
        raise ValueError(f"count = {count}: one image cannot be exchanged for another")
    cycle = np.random.default_rng(seed).permutation(count)
    images = np.empty(count, np.int64)
    images[cycle] = np.roll(cycle, 1)
    return images
