"""Each client's pairs that lie nearest to its centroid, for several scenarios in one pass over the embeddings.

    image  v . cv      text  t . ct      joint  (v . cv + t . ct) / 2      cross  (v . ct + t . cv) / 2

cv, ct: the normalised means of the client's embeddings, as the scenario keeps them.
Shapes: N pairs, K clients, E embedding width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from fedcmp.scenarios.embeddings.folder import EmbeddingFolder

Floats = NDArray[np.float32]
_CHUNK = 8192  # rows read at once


@dataclass(frozen=True)
class Centres:
    """What the pairs of one scenario are compared with.

    Attributes:
        owner: (N,) the client that holds each pair, -1 for none.
        images: (K, E) cv.
        texts: (K, E) ct.
        metric: "image", "text", "joint" or "cross".
    """

    owner: NDArray[np.int32]
    images: Floats
    texts: Floats
    metric: str

    def similarity(self, images: Floats, texts: Floats) -> Floats:
        """(n, K) of n pairs to all centroids."""
        if self.metric == "image":
            return images @ self.images.T
        if self.metric == "text":
            return texts @ self.texts.T
        crossed = self.metric == "cross"
        to_images, to_texts = (self.texts, self.images) if crossed else (self.images, self.texts)
        return (images @ to_images.T + texts @ to_texts.T) * np.float32(0.5)


Nearest = list[list[tuple[int, float]]]  # per client (row, similarity), nearest first


def nearest_pairs(
    embeddings: EmbeddingFolder,
    scenarios: Sequence[Centres],
    most: int,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> list[Nearest]:
    """Find the `most` nearest pairs of every client, exactly; of equals the earlier row comes first.

    Rows are read in pieces, once for all scenarios; pieces of which nobody holds a pair are passed over.

    Args:
        embeddings: N pairs.
        scenarios: who holds them, and the centroids.
        most: pairs a client, at most.
        progress: called with rows read and their total.
    """
    best: list[Nearest] = [[[] for _ in centres.images] for centres in scenarios]
    with threadpool_limits(1):  # products in one order: the same pairs on every run
        for start in range(0, len(embeddings), _CHUNK):
            stop = min(start + _CHUNK, len(embeddings))
            owners = [centres.owner[start:stop] for centres in scenarios]
            if any((owner >= 0).any() for owner in owners):
                images, texts = (embeddings.rows(part, start, stop).astype(np.float32) for part in ("image", "text"))
                for centres, owner, found in zip(scenarios, owners, best, strict=True):
                    held = np.flatnonzero(owner >= 0)
                    similarity = centres.similarity(images[held], texts[held])[np.arange(len(held)), owner[held]]
                    _merge(found, owner[held], held + start, similarity, most)
            if progress is not None:
                progress(stop, len(embeddings))
    return best


def _merge(best: Nearest, owner: NDArray[np.int32], rows: NDArray[np.int64], values: Floats, most: int) -> None:
    """Put the new pairs that belong among the nearest into the lists."""
    order = np.lexsort((rows, -values, owner))
    clients, firsts = np.unique(owner[order], return_index=True)
    for client, own in zip(clients.tolist(), np.split(order, firsts[1:]), strict=True):
        nearest = [(int(rows[at]), float(values[at])) for at in own[:most]]
        best[client] = sorted(best[client] + nearest, key=lambda pair: (-pair[1], pair[0]))[:most]
