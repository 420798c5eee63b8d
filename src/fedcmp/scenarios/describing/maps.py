"""Flat maps of pairs by any of the four similarities: t-SNE (van der Maaten and Hinton 2008) by openTSNE.

The cross similarity is no kernel: there are no vectors whose distances are its own. So every map, of a kernel or not,
is made of a matrix of distances

    D_ij = sqrt(2 d_ij),    d_ij = (s_ii + s_jj)/2 - s_ij, negative values as 0  (as in the silhouette)

For image, text and joint s_ij = x_i . x_j, and D is the Euclidean distance |x_i - x_j| that t-SNE takes by itself. The
affinities are Gaussian in D, of the nearest 3 x perplexity pairs; the start is the PCA of x, for cross that of joint.
Shapes: S pairs, E embedding width.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from openTSNE import TSNE
from openTSNE.affinity import PerplexityBasedNN
from openTSNE.initialization import pca
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from fedcmp.scenarios.describing.heterogeneity import METRICS, Floats, pair_sides, sample_of
from fedcmp.scenarios.manifest import Indices

FEWEST = 8  # pairs of which a map can be made
_PERPLEXITY = 30.0


def distances(images: Floats, texts: Floats, metric: str) -> Floats:
    """(S, S) distances D by one of the four similarities, 0 on the diagonal.

    Args:
        images: (S, E) unit vectors of the pictures.
        texts: (S, E) unit vectors of the captions.
        metric: "image", "text", "joint" or "cross".
    """
    x, y = pair_sides(metric, images, texts)
    itself = (x * y).sum(1)
    squares = np.maximum(itself[:, None] + itself - 2 * (x @ y.T), 0)
    np.fill_diagonal(squares, 0)
    both: Floats = np.sqrt((squares + squares.T) / 2)  # the same both ways, whatever the product rounds
    return both


def map_of(images: Floats, texts: Floats, metric: str, *, seed: int) -> NDArray[np.float64] | None:
    """Lay pairs out on a plane.

    Args:
        images: (S, E) unit vectors of the pictures.
        texts: (S, E) unit vectors of the captions.
        metric: "image", "text", "joint" or "cross".
        seed: of the PCA's jitter and of t-SNE; the same seed gives the same map on the same machine.

    Returns:
        (S, 2); None for fewer than 8 pairs, or where all are alike.
    """
    x, _ = pair_sides(metric, images, texts)
    if len(x) < FEWEST or not np.ptp(x, axis=0).any():
        return None
    perplexity = min(_PERPLEXITY, (len(x) - 1) / 3)
    with threadpool_limits(1):  # sums over points in one order: the same map on every run
        affinities = PerplexityBasedNN(
            distances(images, texts, metric), perplexity=perplexity, metric="precomputed", n_jobs=1, random_state=seed
        )
        start = pca(x, random_state=seed)
        layout = TSNE(n_jobs=1, random_state=seed).fit(affinities=affinities, initialization=start)
    return np.asarray(layout, np.float64)


def map_of_sample(
    images: NDArray[np.floating],
    texts: NDArray[np.floating],
    owner: Indices,
    *,
    metric: str = "joint",
    seed: int = 0,
    sample: int = 1000,
) -> dict[str, Any] | None:
    """Lay a seeded sample of the pairs that clients hold out on a plane.

    Args:
        images: (N, E) unit vectors of the images.
        texts: (N, E) unit vectors of the captions.
        owner: (N,) the client of each pair; -1: a pair that no client holds is left out.
        metric: "image", "text", "joint" or "cross".
        seed: of the sample and of t-SNE.
        sample: pairs on the map, at most.

    Returns:
        As JSON can hold it: metric, x, y (two decimals) and client, one entry per pair; None for fewer than 8 pairs, or
        where all are alike.

    Raises:
        ValueError: another metric.
    """
    if metric not in METRICS:
        raise ValueError(f"metric = {metric!r}: a map can be of {', '.join(METRICS)}")
    held = np.flatnonzero(owner >= 0)
    chosen = held[np.sort(sample_of(len(held), sample, seed=seed))]
    layout = map_of(images[chosen].astype(np.float64), texts[chosen].astype(np.float64), metric, seed=seed)
    if layout is None:
        return None
    x, y = layout.round(2).T.tolist()
    return {"metric": metric, "x": x, "y": y, "client": owner[chosen].tolist()}
