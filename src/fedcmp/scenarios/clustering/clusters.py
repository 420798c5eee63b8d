"""Clusters by similarity: spherical k-means, and the same with the cross similarity (Fed-CMP, appendix E, restored).

             image, text, joint: spherical k-means        cross
similarity   s_ij = x_i . x_j,  x = v, t, [v; t]/sqrt 2    s_ij = v_i . t_j + t_i . v_j
centroids    c = the normalised mean of cluster c's x      cv, ct = the normalised means of its v and of its t
assignment   argmax_c  x_i . c                             argmax_c  v_i . ct_c + t_i . cv_c
objective    J(labels) = 1/N sum of the similarities to the own cluster's centroids, these being of the same labels
seeding      k-means++ (Arthur and Vassilvitskii 2007, greedy) with the distance that belongs to s:
             d_ij = s_ii + s_jj - 2 s_ij, negative values counted as 0

With s a kernel no step lowers J (Dhillon and Modha 2001). The cross similarity is symmetric but no kernel (with a, b =
(v + t, v - t)/sqrt 2 it is a_i . a_j - b_i . b_j), so a step can lower J: the best labels seen are kept, and a run ends
where labels come again. Draws are by splitmix64: the same everywhere. Of a large collection the starts are compared on
a seeded sample, and the best goes on over all pairs.

Shapes: N pairs, E embedding width, D width of the vectors (vectors.py), K clusters.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedcmp.data.batches import one_pass_order
from fedcmp.errors import UserError
from fedcmp.scenarios.clustering.climbing import Climbed, Labels, Watch, climb
from fedcmp.scenarios.clustering.vectors import Floats, MemoryVectors, Vectors
from fedcmp.world.randomness import random_integers

RESTARTS, STARTING_SAMPLE = 4, 32_768
_SAMPLE = 0x7374617274  # keeps the draw of the sample apart from other draws of the same seed


@dataclass(frozen=True)
class Clusters:
    """A partition by similarity.

    Attributes:
        labels: (N,) the cluster of each pair, 0 to K - 1; no cluster is empty.
        centroids: (K, D) of these labels, in the partners' order of halves.
        trace: objective after each step of the best start; its largest value is that of `labels`.
        starts: best objective of each start.
    """

    labels: Labels
    centroids: Floats
    trace: list[float]
    starts: list[float]

    @property
    def objective(self) -> float:
        """Of `labels`."""
        return max(self.trace)


def spherical_clusters(vectors: NDArray[np.floating], clients: int, *, seed: int, restarts: int = RESTARTS) -> Clusters:
    """Spherical k-means in float64.

    Args:
        vectors: (N, E) unit vectors.
        clients: K.
        seed: of the starts.
        restarts: starts, of which the best is taken (the first of equals).

    Returns:
        The best labels of all starts.

    Raises:
        UserError: fewer pairs than clients.
        ValueError: restarts < 1.
    """
    return best_clusters(MemoryVectors(vectors), clients, seed=seed, restarts=restarts, threads=1)


def cross_clusters(
    images: NDArray[np.floating], texts: NDArray[np.floating], clients: int, *, seed: int, restarts: int = RESTARTS
) -> Clusters:
    """Partition pairs by cross similarity, in float64.

    Args:
        images: (N, E) unit vectors of the pictures.
        texts: (N, E) unit vectors of their captions, in the same space.
        clients: K.
        seed: of the starts.
        restarts: starts, of which the best is taken (the first of equals).

    Returns:
        The best labels of all steps of all starts.

    Raises:
        UserError: fewer pairs than clients.
        ValueError: images and texts of different shapes; restarts < 1.
    """
    if images.shape != texts.shape:
        raise ValueError(f"images {images.shape} and texts {texts.shape}: must have the same shape")
    vectors = MemoryVectors(np.concatenate([images, texts], 1), halves=True)
    return best_clusters(vectors, clients, seed=seed, restarts=restarts, threads=1)


def best_clusters(
    vectors: Vectors,
    clusters: int,
    *,
    seed: int,
    restarts: int = RESTARTS,
    sample: int = STARTING_SAMPLE,
    threads: int | None = None,
    device: str = "auto",
    watch: Watch | None = None,
) -> Clusters:
    """The best of some starts.

    Args:
        vectors: what is clustered.
        clusters: K.
        seed: of the starts.
        restarts: how many.
        sample: of more vectors than that, the starts are run on so many, drawn by the seed, and the best goes on.
        threads: see `climb`.
        device: see `climb`.
        watch: called after every step over all vectors.

    Raises:
        UserError: fewer pairs than clusters.
        ValueError: restarts < 1.
    """
    if restarts < 1:
        raise ValueError(f"restarts = {restarts}: must be at least 1")
    if len(vectors) < clusters:
        raise UserError(f"scenario.clients = {clusters}: there are only {len(vectors)} pairs")
    few = vectors
    if len(vectors) > max(sample, clusters):
        drawn = np.sort(one_pass_order(len(vectors), seed + _SAMPLE)[: max(sample, clusters)])
        few = MemoryVectors(vectors.gather(drawn), halves=vectors.halves, dtype=vectors.dtype)
    own = few.rows(0, len(few))
    partner = few.partners(own)
    best: Climbed | None = None
    starts = []
    for start in range(restarts):
        seeds = _seeds(own, partner, clusters, seed=seed, start=start)
        found = climb(few, partner[seeds], threads=threads, device=device, watch=watch if few is vectors else None)
        starts.append(max(found.trace))
        if best is None or max(found.trace) > max(best.trace):
            best = found
    assert best is not None
    if few is not vectors:
        best = climb(vectors, best.centroids, threads=threads, device=device, watch=watch)
    return Clusters(best.labels, best.centroids, best.trace, starts)


def _seeds(own: Floats, partner: Floats, clusters: int, *, seed: int, start: int) -> Labels:
    """K distinct pairs, far from each other: each the best of some that are drawn in proportion to their distance."""
    trials = 2 + int(math.log(clusters))
    draws = random_integers(seed, np.arange(start * clusters, (start + 1) * clusters), trials) / 2**31  # (K, trials)
    itself = (own * partner).sum(1)  # (N,) s_ii
    chosen = [int(draws[0, 0] * len(own))]
    nearest = _distances(own, partner, itself, chosen)[0]
    for step in range(1, clusters):
        nearest[chosen] = 0
        far = nearest.cumsum()
        if far[-1] <= 0:  # only copies of chosen pairs are left
            chosen.append(int(np.setdiff1d(np.arange(len(own)), chosen)[0]))
            continue
        drawn = np.minimum(np.searchsorted(far, draws[step] * far[-1], side="right"), len(own) - 1)
        left = np.minimum(_distances(own, partner, itself, drawn.tolist()), nearest)  # (trials, N)
        winner = int(left.sum(1).argmin())
        chosen.append(int(drawn[winner]))
        nearest = left[winner]
    return np.array(chosen, np.int64)


def _distances(own: Floats, partner: Floats, itself: Floats, pairs: list[int]) -> Floats:
    """(n, N) d_ij of n pairs to all."""
    return np.maximum(itself[pairs][:, None] + itself - 2 * (partner[pairs] @ own.T), 0)
