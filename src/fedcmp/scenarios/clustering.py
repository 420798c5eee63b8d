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
where labels come again. Float64, draws by splitmix64: the same everywhere.

Shapes: N pairs, E embedding width, K clusters.
"""

import hashlib
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from fedcmp.errors import UserError
from fedcmp.world.randomness import random_integers

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]

RESTARTS, MAX_STEPS = 4, 200


@dataclass(frozen=True)
class Clusters:
    """A division by similarity.

    Attributes:
        labels: (N,) the cluster of each pair, 0 to K - 1; no cluster is empty.
        trace: objective after each step of the best start; its largest value is that of `labels`.
        starts: best objective of each start.
    """

    labels: Labels
    trace: list[float]
    starts: list[float]

    @property
    def objective(self) -> float:
        """Of `labels`."""
        return max(self.trace)


def spherical_clusters(vectors: NDArray[np.floating], clients: int, *, seed: int, restarts: int = RESTARTS) -> Clusters:
    """Spherical k-means.

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
    own = vectors.astype(np.float64)
    return _best_start(own, own, clients, blocks=1, seed=seed, restarts=restarts)


def cross_clusters(
    images: NDArray[np.floating], texts: NDArray[np.floating], clients: int, *, seed: int, restarts: int = RESTARTS
) -> Clusters:
    """Divide pairs by cross similarity.

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
    own = np.concatenate([images, texts], 1).astype(np.float64)  # (N, 2E): [v | t]
    partner = np.concatenate([texts, images], 1).astype(np.float64)  # (N, 2E): [t | v], so s_ij = own_i . partner_j
    return _best_start(own, partner, clients, blocks=2, seed=seed, restarts=restarts)


def _best_start(own: Floats, partner: Floats, clients: int, *, blocks: int, seed: int, restarts: int) -> Clusters:
    """The best of some starts; centroids are normalised block by block."""
    if restarts < 1:
        raise ValueError(f"restarts = {restarts}: must be at least 1")
    if len(own) < clients:
        raise UserError(f"scenario.clients = {clients}: there are only {len(own)} pairs")
    best: Clusters | None = None
    starts = []
    with threadpool_limits(1):  # sums in one order: the same clusters on every run
        for start in range(restarts):
            found = _climb(own, partner, _seeds(own, partner, clients, seed=seed, start=start), blocks)
            starts.append(found.objective)
            if best is None or found.objective > best.objective:
                best = found
    assert best is not None
    return Clusters(best.labels, best.trace, starts)


def _climb(own: Floats, partner: Floats, seeds: Labels, blocks: int) -> Clusters:
    """Assign and average in turn from K pairs as first centroids, until labels come again."""
    clusters = len(seeds)
    centroids = partner[seeds]
    seen: set[bytes] = set()
    trace: list[float] = []
    best = np.empty(0, np.int64)
    for _ in range(MAX_STEPS):
        similarity = own @ centroids.T  # (N, K)
        labels = _none_empty(similarity.argmax(1), similarity)
        digest = hashlib.sha256(labels.tobytes()).digest()
        if digest in seen:
            break
        seen.add(digest)
        centroids, objective = _centroids(own, partner, labels, clusters, blocks)
        if not trace or objective > max(trace):
            best = labels
        trace.append(objective)
    return Clusters(best, trace, [])


def _centroids(own: Floats, partner: Floats, labels: Labels, clusters: int, blocks: int) -> tuple[Floats, float]:
    """(K, blocks E) centroids of a labelling, each block normalised; its objective, 1/N sum_c own_c . centroid_c."""
    members = np.zeros((clusters, len(labels)))
    members[labels, np.arange(len(labels))] = 1
    parts = np.split(members @ partner, blocks, axis=1)
    centroids = np.concatenate([p / np.maximum(np.linalg.norm(p, axis=1, keepdims=True), 1e-300) for p in parts], 1)
    objective = float((members @ own * centroids).sum()) / len(labels)
    return centroids, objective


def _none_empty(labels: Labels, similarity: Floats) -> Labels:
    """Give each empty cluster the pair that fits its own cluster worst, taken from a cluster of at least two."""
    counts = np.bincount(labels, minlength=similarity.shape[1])
    if counts.all():
        return labels
    labels = labels.copy()
    for pair in np.argsort(similarity[np.arange(len(labels)), labels], kind="stable").tolist():
        empty = np.flatnonzero(counts == 0)
        if not empty.size:
            break
        if counts[labels[pair]] > 1:
            counts[labels[pair]] -= 1
            labels[pair] = empty[0]
            counts[empty[0]] = 1
    return labels


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
