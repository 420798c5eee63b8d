"""Assign and average in turn (Lloyd 1982), and skip every pair that cannot change its cluster.

s_ic = x_i . C_c with C (K, D) the normalised means of the partners (vectors.py). When a centroid moves by d_c, s_ic
moves by at most longest * d_c (Cauchy and Schwarz). So each pair keeps a lower bound of its similarity to its own
cluster and an upper bound to every other (Elkan 2003, for distances): where no upper bound reaches the lower one, the
pair is not read. Sums over clusters are corrected by the pairs that moved. Labels are those of the plain algorithm, up
to rounding in ties.

Pairs go through in pieces of a fixed size, several threads at a time, and results are added in the pieces' order: they
do not depend on the number of threads.

Shapes: N pairs, n of one piece, K clusters, D width.
"""

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from fedcmp.model.locations import device_of
from fedcmp.scenarios.clustering.vectors import Floats, Vectors

Labels = NDArray[np.int64]
Sums = NDArray[np.float64]
Watch = Callable[[int, int, float], None]  # step, pairs that moved, objective

MAX_STEPS = 200
_PIECE_BYTES = 4 * 2**20  # of vectors: several fit in the cache
_WHOLE = 0.3  # from this share of a piece on, all of it is read: consecutive rows are cheaper


@dataclass(frozen=True)
class Climbed:
    """Where a start ended.

    Attributes:
        labels: (N,) of the best step.
        centroids: (K, D) of these labels.
        trace: objective after each step: 1/N sum of the similarities to the own cluster's centroid.
        read: vectors that were read after the first step, over those that the plain algorithm reads.
    """

    labels: Labels
    centroids: Floats
    trace: list[float]
    read: float


def climb(
    vectors: Vectors,
    centroids: Floats,
    *,
    max_steps: int = MAX_STEPS,
    threads: int | None = None,
    device: str = "auto",
    watch: Watch | None = None,
) -> Climbed:
    """From first centroids until labels come again.

    Args:
        vectors: N of them.
        centroids: (K, D), of length 1 (each half, where vectors have halves); in the partners' order of halves.
        max_steps: an end where labels go on changing.
        threads: pieces at a time; None: as many as this process may use.
        device: where products are computed: "auto" is the GPU if there is one.
        watch: called after every step.

    Returns:
        The best labels of all steps; no cluster is empty.

    Raises:
        ValueError: more clusters than vectors.
    """
    if len(centroids) > len(vectors):
        raise ValueError(f"{len(centroids)} clusters for {len(vectors)} vectors")
    with threadpool_limits(1), ThreadPoolExecutor(threads or _usable_processors()) as pool:
        return _Climb(vectors, centroids, pool, _product(device)).run(max_steps, watch)


class _Climb:
    def __init__(
        self, vectors: Vectors, centroids: Floats, pool: ThreadPoolExecutor, product: Callable[[Floats, Floats], Floats]
    ) -> None:
        self.vectors, self.pool, self.product = vectors, pool, product
        self.centroids = np.ascontiguousarray(centroids, vectors.dtype)
        count, clusters = len(vectors), len(centroids)
        self.labels: Labels = np.full(count, -1, np.int64)
        self.lower = self.upper = np.empty(0, vectors.dtype)
        self.sums: Sums = np.zeros((clusters, vectors.width))  # of the vectors of each cluster
        self.margin = 1e-5 if vectors.dtype == np.float32 else 1e-11  # rounding of one similarity, generously
        size = max(1, _PIECE_BYTES // (vectors.width * vectors.dtype.itemsize))
        self.pieces = [(start, min(start + size, count)) for start in range(0, count, size)]
        self.read = 0

    def run(self, max_steps: int, watch: Watch | None) -> Climbed:
        count, clusters = len(self.vectors), len(self.centroids)
        self.lower = np.full(count, -np.inf, self.vectors.dtype)  # of the similarity to the own cluster
        self.upper = np.full((count, clusters), np.inf, self.vectors.dtype)  # to the others; -inf in the own column
        seen: set[bytes] = set()
        trace: list[float] = []
        best = self.labels, self.centroids
        drift = np.zeros(len(self.centroids), self.vectors.dtype)
        for step in range(max_steps):
            moved = self._assign(drift)
            counts = np.bincount(self.labels, minlength=len(self.centroids))
            if not counts.all():
                moved += self._fill(counts)
            digest = hashlib.sha256(self.labels.data).digest()
            if digest in seen:
                break
            seen.add(digest)
            objective, drift = self._average()
            if not trace or objective > max(trace):
                best = self.labels.copy(), self.centroids
            trace.append(objective)
            if watch is not None:
                watch(step + 1, moved, objective)
            if step == 0:
                self.read = 0
        later = max(1, len(trace)) * len(self.vectors)
        return Climbed(*best, trace, self.read / later)

    def _assign(self, drift: Floats) -> int:
        """Each pair to the centroid that it is most similar to; returns how many moved."""
        drift = drift * self.vectors.longest + np.finfo(self.vectors.dtype).eps
        transposed = np.ascontiguousarray(self.centroids.T)
        moved = 0
        for change, count, read in self.pool.map(lambda piece: self._piece(piece, drift, transposed), self.pieces):
            if change is not None:
                self.sums += change
            moved += count
            self.read += read
        return moved

    def _piece(self, piece: tuple[int, int], drift: Floats, transposed: Floats) -> tuple[Floats | None, int, int]:
        """One piece: the change of the sums, how many pairs moved, how many were read."""
        start, stop = piece
        labels, lower, upper = self.labels[start:stop], self.lower[start:stop], self.upper[start:stop]
        upper += drift
        lower -= drift[labels]
        open_ = np.flatnonzero(upper.max(1) >= lower - 2 * self.margin)
        if not len(open_):
            return None, 0, 0
        whole = len(open_) > _WHOLE * (stop - start)
        chosen = np.arange(stop - start) if whole else open_
        x = self.vectors.rows(start, stop) if whole else self.vectors.gather(start + open_)
        similarity = self.product(x, transposed)  # (n, K)
        old, new = labels[chosen], similarity.argmax(1)
        row = np.arange(len(chosen))
        lower[chosen] = similarity[row, new]
        similarity[row, new] = -np.inf
        upper[chosen] = similarity
        labels[chosen] = new
        moved = np.flatnonzero(old != new)
        if not len(moved):
            return None, 0, len(chosen)
        clusters = transposed.shape[1]
        members = np.zeros((clusters, len(moved)), x.dtype)
        was = old[moved] >= 0  # at first no pair has a cluster
        members[old[moved][was], np.flatnonzero(was)] = -1
        members[new[moved], np.arange(len(moved))] = 1
        return members @ (x if len(moved) == len(x) else x[moved]), len(moved), len(chosen)

    def _fill(self, counts: NDArray[np.int64]) -> int:
        """Give each empty cluster the pair that fits its own cluster worst, taken from a cluster of at least two."""
        fits = np.concatenate(list(self.pool.map(lambda piece: self._fit(*piece), self.pieces)))
        moved = 0
        for pair in np.argsort(fits, kind="stable"):
            empty = np.flatnonzero(counts == 0)
            if not empty.size:
                break
            if counts[self.labels[pair]] > 1:
                x = self.vectors.gather(np.array([pair]))[0].astype(np.float64)
                self.sums[self.labels[pair]] -= x
                self.sums[empty[0]] += x
                counts[self.labels[pair]] -= 1
                counts[empty[0]] = 1
                self.labels[pair] = empty[0]
                self.lower[pair], self.upper[pair] = -np.inf, np.inf  # looked at again in the next step
                moved += 1
        return moved

    def _fit(self, start: int, stop: int) -> Floats:
        """(n,) similarity of each pair to its own cluster's centroid."""
        x = self.vectors.rows(start, stop)
        return self.product(x, np.ascontiguousarray(self.centroids.T))[np.arange(stop - start), self.labels[start:stop]]

    def _average(self) -> tuple[float, Floats]:
        """New centroids from the sums; returns the objective of the labels, and how far each centroid went."""
        before = self.centroids
        exact = self.vectors.normalised(self.vectors.partners(self.sums))
        self.centroids = exact.astype(self.vectors.dtype)
        return float((self.sums * exact).sum()) / len(self.vectors), np.linalg.norm(self.centroids - before, axis=1)


def own_similarity(
    vectors: Vectors, centroids: Floats, labels: Labels, *, threads: int | None = None, device: str = "auto"
) -> Floats:
    """(N,) similarity of each pair to its own cluster's centroid, by one pass over all vectors."""
    with threadpool_limits(1), ThreadPoolExecutor(threads or _usable_processors()) as pool:
        one = _Climb(vectors, centroids, pool, _product(device))
        one.labels = labels
        return np.concatenate(list(pool.map(lambda piece: one._fit(*piece), one.pieces)))


def _product(device: str) -> Callable[[Floats, Floats], Floats]:
    """The matrix product, on the processor or on a GPU."""
    where = device_of(device, key="--device")
    if where.type == "cpu" and device in ("auto", "cpu"):
        return np.matmul

    def on_device(x: Floats, transposed: Floats) -> Floats:
        left, right = (torch.from_numpy(side).to(where, non_blocking=True) for side in (x, transposed))
        product: NDArray[Any] = (left @ right).cpu().numpy()
        return product

    return on_device


def _usable_processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
