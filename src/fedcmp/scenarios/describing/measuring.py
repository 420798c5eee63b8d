"""How unlike the clients of a scenario are, on a sample of its pairs (the measures of heterogeneity.py).

The Fréchet distance needs tr((C_a^1/2 C_b C_a^1/2)^1/2), the sum of the singular values of C_a^1/2 C_b^1/2. With the
centred vectors X_a (n, D), C_a = X_a^T X_a / n_a, these are the singular values of X_a X_b^T / sqrt(n_a n_b): a matrix
of the sample's size instead of the embeddings' width. It stays above 0 for few pairs that are drawn alike, so the same
distance between random shares of the same sizes stands beside it.
Shapes: S sample, K clients, E embedding width.
"""

import itertools
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from fedcmp.data.batches import one_pass_order
from fedcmp.scenarios.heterogeneity import METRICS, Floats, Gaussian, frechet, pair_sides, silhouette, within_between
from fedcmp.scenarios.manifest import Indices

_DRAW = 0x6D697865  # keeps the random shares' draws apart from the sample's


def measure(images: Floats, texts: Floats, owner: Indices, clients: int, *, seed: int) -> dict[str, Any]:
    """Measure one scenario.

    Args:
        images: (S, E) unit vectors of the pictures.
        texts: (S, E) unit vectors of the captions.
        owner: (S,) the client of each pair, 0 to K - 1.
        clients: K.
        seed: of the random shares.

    Returns:
        As JSON can hold it: alignment (K,), similarity {metric: {within, between, gap}}, silhouette {metric: value},
        frechet {image, text, joint: {clients, random}}; None where a measure has no meaning: a client without pairs,
        one client, or clients of one pair each.
    """
    together = (images * texts).sum(1)
    shuffled = owner[one_pass_order(len(owner), seed + _DRAW)]
    found: dict[str, Any] = {
        "alignment": [float(together[owner == k].mean()) if (owner == k).any() else None for k in range(clients)],
        "similarity": {},
        "silhouette": {},
        "frechet": {},
    }
    with threadpool_limits(1):  # sums in one order: the same figures on every run
        for metric in METRICS:
            x, y = pair_sides(metric, images, texts)
            several = len(np.unique(owner)) > 1
            found["similarity"][metric] = within_between(x, y, owner) if several else None
            found["silhouette"][metric] = silhouette(x, y, owner)
            if metric != "cross":
                found["frechet"][metric] = {
                    "clients": mean_frechet(x, owner) if several else None,
                    "random": mean_frechet(x, shuffled) if several else None,
                }
    return found


def mean_frechet(x: Floats, owner: Indices) -> float:
    """Mean Fréchet distance, squared, over the pairs of clients.

    Args:
        x: (S, D) vectors.
        owner: (S,) the client of each, at least two clients.
    """
    fits = [_fit(x[owner == client]) for client in np.unique(owner)]
    return float(np.mean([frechet(a, (b[0], b[1], b[2].T)) for a, b in itertools.combinations(fits, 2)]))


def _fit(x: Floats) -> Gaussian:
    """Mean, covariance's trace and X / sqrt(n), or its R of QR if that is smaller: R^T R is the covariance too."""
    mean = x.mean(0)
    root = (x - mean) / np.sqrt(len(x))
    if len(root) > root.shape[1]:
        root = np.linalg.qr(root, mode="r")
    return mean, (root**2).sum(), root
