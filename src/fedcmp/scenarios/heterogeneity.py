"""How different the clients' pairs are, measured on embeddings v (pictures) and t (captions) and on labels.

similarity       s_ij = v_i . v_j (image), t_i . t_j (text), their mean (joint), (v_i . t_j + t_i . v_j) / 2 (cross);
                 within: mean over pairs i != j of one client, between: of two clients, gap = within - between
silhouette       Rousseeuw 1987, with d_ij = (s_ii + s_jj)/2 - s_ij (1 - cosine for image, text, joint; for cross
                 negative values count as 0), on a seeded sample
Fréchet          |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a^1/2 C_b C_a^1/2)^1/2) of Gaussian fits to two clients' v, t or
                 [v; t]/sqrt 2 (Dowson and Landau 1982), mean over the pairs of clients
total variation  1/2 sum_l |p_a(l) - p_b(l)| of two clients' shares of label l, mean over the pairs of clients
alignment        v_i . t_i, mean over a client's pairs: falls where captions are wrong

Clients that hold random shares have gap and silhouette about 0; Fréchet and total variation keep a small positive
value there, the smaller the more pairs they hold.
Shapes: N pairs, E embedding width, K clients, S sample.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from sklearn.manifold import TSNE
from sklearn.metrics import silhouette_score
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from fedcmp.data.batches import one_pass_order
from fedcmp.scenarios.manifest import Indices

T = TypeVar("T")
Floats = NDArray[np.float64]
METRICS = ("image", "text", "joint", "cross")
_SAMPLE = 0x73616D706C65  # keeps the draws of samples apart from the order of the pairs, which has the same seed


def heterogeneity(
    images: NDArray[np.floating],
    texts: NDArray[np.floating],
    holdings: Sequence[Indices],
    *,
    labels: Mapping[str, Sequence[str]] | None = None,
    seed: int = 0,
    sample: int = 2000,
) -> dict[str, Any]:
    """All measures of one division.

    Args:
        images: (N, E) unit vectors of the pictures.
        texts: (N, E) unit vectors of the captions that the pairs carry.
        holdings: per client, its pairs; a pair that no client holds is left out.
        labels: name -> (N,) a label of each pair, such as its content family.
        seed: of the silhouette's sample.
        sample: pairs in it, at most.

    Returns:
        As JSON can hold it: sizes (K,), alignment (K,), similarity {metric: {within, between, gap}}, silhouette
        {metric: value}, frechet {image, text, joint: value}, total_variation {label name: value}. None stands where
        a measure has no meaning: one client, or clients of one pair each.

    Raises:
        ValueError: embeddings or labels that do not fit each other, a client without pairs, a pair held twice.
    """
    held, owner = _held(holdings, len(images))
    for name, values in {"texts": texts, **(labels or {})}.items():
        if len(values) != len(images):
            raise ValueError(f"{name}: {len(values)} entries for {len(images)} pairs")
    v, t = images[held].astype(np.float64), texts[held].astype(np.float64)
    clients = len(holdings)
    drawn = one_pass_order(len(held), seed + _SAMPLE)[:sample]
    sides = {metric: pair_sides(metric, v, t) for metric in METRICS}
    sampled = {metric: (x[drawn], y[drawn]) for metric, (x, y) in sides.items()}
    return {
        "sizes": [len(mine) for mine in holdings],
        "alignment": [float((v[owner == c] * t[owner == c]).sum(1).mean()) for c in range(clients)],
        "similarity": {metric: within_between(x, y, owner) for metric, (x, y) in sides.items()},
        "silhouette": {metric: silhouette(x, y, owner[drawn]) for metric, (x, y) in sampled.items()},
        "frechet": {
            metric: _between_clients([_gaussian(sides[metric][0][owner == c]) for c in range(clients)], frechet)
            for metric in METRICS[:3]
        },
        "total_variation": {
            name: _between_clients(_shares(np.asarray(values)[held], owner, clients), total_variation)
            for name, values in (labels or {}).items()
        },
    }


def _held(holdings: Sequence[Indices], pairs: int) -> tuple[Indices, Indices]:
    """(N,) the pairs that are held, ascending, and (N,) who holds them."""
    if not holdings or not all(len(mine) for mine in holdings):
        raise ValueError(f"client {[len(mine) for mine in holdings].index(0) if holdings else 0}: holds no pairs")
    together = np.concatenate(holdings)
    if len(np.unique(together)) < len(together) or together.min() < 0 or together.max() >= pairs:
        raise ValueError(f"holdings: each of {pairs} pairs can be held once, by numbers 0 to {pairs - 1}")
    owner = np.repeat(np.arange(len(holdings)), [len(mine) for mine in holdings])
    order = np.argsort(together)
    return together[order], owner[order]


def pair_sides(metric: str, v: Floats, t: Floats) -> tuple[Floats, Floats]:
    """x, y with s_ij = x_i . y_j, scaled so that pairs i = j with v_i = t_i have s = 1."""
    if metric in ("image", "text"):
        x = v if metric == "image" else t
        return x, x
    own, partner = np.concatenate([v, t], 1) / np.sqrt(2), np.concatenate([t, v], 1) / np.sqrt(2)
    return own, own if metric == "joint" else partner


def within_between(x: Floats, y: Floats, owner: Indices) -> dict[str, float | None]:
    """Mean similarity inside and across clients, exactly, from sums over clients.

    Args:
        x: (N, D).
        y: (N, D); s_ij = x_i . y_j.
        owner: (N,) the client of each pair.

    Returns:
        within, between and their difference, gap; None where there is no such pair of pairs.
    """
    clients, sizes = np.unique(owner, return_counts=True)
    sums_x, sums_y = (np.stack([side[owner == client].sum(0) for client in clients]) for side in (x, y))
    counts = sizes.astype(np.float64)
    inside, alone = float((sums_x * sums_y).sum()), float((x * y).sum())
    across = float(sums_x.sum(0) @ sums_y.sum(0)) - inside
    pairs_inside = float((counts * (counts - 1)).sum())
    pairs_across = float(counts.sum() ** 2 - (counts**2).sum())
    within = (inside - alone) / pairs_inside if pairs_inside else None
    between = across / pairs_across if pairs_across else None
    gap = None if within is None or between is None else within - between
    return {"within": within, "between": between, "gap": gap}


def silhouette(x: Floats, y: Floats, owner: Indices) -> float | None:
    """Mean silhouette, -1 to 1, of pairs by d_ij = (s_ii + s_jj)/2 - s_ij; None for one client or a client a pair.

    Args:
        x: (S, D).
        y: (S, D); s_ij = x_i . y_j, symmetric.
        owner: (S,) the client of each pair.
    """
    if not 1 < len(np.unique(owner)) < len(owner):
        return None
    itself = (x * y).sum(1)
    distances = np.maximum((itself[:, None] + itself) / 2 - x @ y.T, 0)
    np.fill_diagonal(distances, 0)
    return float(silhouette_score(distances, owner, metric="precomputed"))


Gaussian = tuple[Floats, Floats, Floats]  # mean (D,), covariance's trace (), covariance's root (D, D)


def _gaussian(x: Floats) -> Gaussian:
    mean = x.mean(0)
    values, vectors = np.linalg.eigh((x - mean).T @ (x - mean) / len(x))
    values = np.maximum(values, 0)
    return mean, values.sum(), (vectors * np.sqrt(values)) @ vectors.T


def frechet(a: Gaussian, b: Gaussian) -> float:
    """Fréchet distance, squared, of two Gaussians; the last trace is the sum of singular values of C_a^1/2 C_b^1/2."""
    shared = np.linalg.svd(a[2] @ b[2], compute_uv=False).sum()
    return float(max(((a[0] - b[0]) ** 2).sum() + a[1] + b[1] - 2 * shared, 0.0))


def _shares(labels: NDArray[np.str_], owner: Indices, clients: int) -> list[Floats]:
    """Per client, the share of each label among its pairs."""
    names, number = np.unique(labels, return_inverse=True)
    counts = [np.bincount(number[owner == client], minlength=len(names)) for client in range(clients)]
    return [count / count.sum() for count in counts]


def total_variation(a: Floats, b: Floats) -> float:
    """Half the summed differences of two distributions, 0 to 1."""
    return float(np.abs(a - b).sum() / 2)


def _between_clients(described: list[T], distance: Callable[[T, T], float]) -> float | None:
    """Mean over the pairs of clients."""
    distances = [distance(a, b) for a, b in itertools.combinations(described, 2)]
    return float(np.mean(distances)) if distances else None


def map_of_pairs(
    images: NDArray[np.floating],
    texts: NDArray[np.floating],
    holdings: Sequence[Indices],
    *,
    metric: str = "joint",
    seed: int = 0,
    sample: int = 1000,
) -> dict[str, Any] | None:
    """A flat map of a seeded sample of the pairs, by t-SNE (van der Maaten and Hinton 2008) started from its PCA.

    Args:
        images: (N, E) unit vectors of the pictures.
        texts: (N, E) unit vectors of the captions.
        holdings: per client, its pairs.
        metric: "image", "text" or "joint": what the map is of.
        seed: of the sample and of t-SNE.
        sample: pairs on the map, at most.

    Returns:
        As JSON can hold it: metric, x, y (two decimals) and client, one entry a pair; None for fewer than 8 pairs, or
        where all are alike.

    Raises:
        ValueError: another metric; holdings that `heterogeneity` refuses.
    """
    if metric not in METRICS[:3]:
        raise ValueError(f"metric = {metric!r}: a map can be of {', '.join(METRICS[:3])}")
    held, owner = _held(holdings, len(images))
    drawn = np.sort(one_pass_order(len(held), seed + _SAMPLE)[:sample])
    chosen = held[drawn]
    points = pair_sides(metric, images[chosen].astype(np.float64), texts[chosen].astype(np.float64))[0]
    if len(drawn) < 8 or not np.ptp(points, axis=0).any():
        return None
    perplexity = min(30.0, (len(drawn) - 1) / 3)
    with threadpool_limits(1):  # sums over points in one order: the same map on every run
        map_S2 = TSNE(perplexity=perplexity, init="pca", random_state=seed, n_jobs=1).fit_transform(points)
    x, y = (np.round(column.astype(np.float64), 2).tolist() for column in map_S2.T)
    return {"metric": metric, "x": x, "y": y, "client": owner[drawn].tolist()}
