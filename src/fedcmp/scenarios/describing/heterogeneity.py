"""How different the clients' pairs are, measured on embeddings v (images) and t (captions) and on labels.

similarity       s_ij = v_i . v_j (image), t_i . t_j (text), their mean (joint), (v_i . t_j + t_i . v_j) / 2 (cross);
                 within: mean over pairs i != j of one client, between: of two clients, gap = within - between
silhouette       Rousseeuw 1987, with d_ij = (s_ii + s_jj)/2 - s_ij (1 - cosine for image, text, joint; for cross
                 negative values count as 0), on a seeded sample
Fréchet          |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a^1/2 C_b C_a^1/2)^1/2) of Gaussian fits to two clients' v, t or
                 [v; t]/sqrt 2 (Dowson and Landau 1982), mean over the pairs of clients
total variation  1/2 sum_l |p_a(l) - p_b(l)| of two clients' shares of label l, mean over the pairs of clients
alignment        v_i . t_i, mean over a client's pairs: falls where captions are wrong

The Fréchet distance's last trace is the sum of the singular values of C_a^1/2 C_b^1/2. With the centred vectors X_a
(n, D), C_a = X_a^T X_a / n_a, these are the singular values of X_a X_b^T / sqrt(n_a n_b): a matrix of the sample's size
where that is below the embeddings' width.

Clients that hold random shares have gap and silhouette about 0; Fréchet and total variation keep a small positive
value there, the smaller the more pairs they hold.
Shapes: N pairs, D width of the vectors compared, E embedding width, K clients, S sample.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import silhouette_score
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from fedcmp.data.batches import one_pass_order
from fedcmp.scenarios.manifest import Indices

T = TypeVar("T")
Floats = NDArray[np.float64]
METRICS = ("image", "text", "joint", "cross")
_SAMPLE = 0x73616D706C65  # keeps the draws of samples apart from the order of the pairs, which has the same seed
_SHUFFLE = 0x6D697865  # keeps the random shares' draws apart from the sample's


def owner_of(holdings: Sequence[Indices], pairs: int) -> Indices:
    """Return the client that holds each pair.

    Args:
        holdings: per client, its pairs.
        pairs: N.

    Returns:
        (N,) the client of each pair, -1 where nobody holds it.

    Raises:
        ValueError: a client without pairs, a pair held twice, or one that is not there.
    """
    if not holdings or not all(len(mine) for mine in holdings):
        raise ValueError(f"client {[len(mine) for mine in holdings].index(0) if holdings else 0}: holds no pairs")
    together = np.concatenate(holdings)
    if len(np.unique(together)) < len(together) or together.min() < 0 or together.max() >= pairs:
        raise ValueError(f"holdings: each of {pairs} pairs can be held once, by numbers 0 to {pairs - 1}")
    owner = np.full(pairs, -1, np.int64)
    for client, mine in enumerate(holdings):
        owner[mine] = client
    return owner


def sample_of(count: int, sample: int, *, seed: int) -> Indices:
    """Draw at most `sample` of `count` pairs: the same draw for the silhouette and for a map."""
    return one_pass_order(count, seed + _SAMPLE)[:sample]


def heterogeneity(
    images: NDArray[np.floating],
    texts: NDArray[np.floating],
    owner: Indices,
    clients: int,
    *,
    labels: Mapping[str, Sequence[str]] | None = None,
    seed: int = 0,
    sample: int = 2000,
) -> dict[str, Any]:
    """Compute all measures of one scenario.

    Args:
        images: (N, E) unit vectors of the images.
        texts: (N, E) unit vectors of the captions that the pairs carry.
        owner: (N,) the client of each pair, 0 to K - 1; -1: a pair that no client holds is left out.
        clients: K.
        labels: name -> (N,) a label of each pair, such as its content family.
        seed: of the silhouette's sample.
        sample: pairs in it, at most.

    Returns:
        As JSON can hold it: alignment (K,), similarity {metric: {within, between, gap}}, silhouette {metric: value},
        frechet {image, text, joint: value}, total_variation {label name: value}. None stands where a measure has no
        meaning: a client without pairs, one client, or clients of one pair each.

    Raises:
        ValueError: embeddings or labels that do not fit each other.
    """
    for name, values in {"texts": texts, **(labels or {})}.items():
        if len(values) != len(images):
            raise ValueError(f"{name}: {len(values)} entries for {len(images)} pairs")
    held = np.flatnonzero(owner >= 0)
    mine = owner[held]
    v, t = images[held].astype(np.float64), texts[held].astype(np.float64)
    drawn = sample_of(len(held), sample, seed=seed)
    sides = {metric: pair_sides(metric, v, t) for metric in METRICS}
    with threadpool_limits(1):  # sums in one order: the same figures on every run
        return {
            "alignment": [
                float((v[mine == c] * t[mine == c]).sum(1).mean()) if (mine == c).any() else None
                for c in range(clients)
            ],
            "similarity": {metric: _within_between(x, y, mine) for metric, (x, y) in sides.items()},
            "silhouette": {metric: _silhouette(x[drawn], y[drawn], mine[drawn]) for metric, (x, y) in sides.items()},
            "frechet": {metric: _mean_frechet(sides[metric][0], mine) for metric in METRICS[:3]},
            "total_variation": {
                name: _between_clients(_shares(np.asarray(values)[held], mine), total_variation)
                for name, values in (labels or {}).items()
            },
        }


def frechet_of_random_shares(
    images: Floats, texts: Floats, owner: Indices, *, seed: int = 0
) -> dict[str, float | None]:
    """Compute the Fréchet distances that random shares of the same sizes have: above 0 where pairs are few.

    Args:
        images: (N, E) unit vectors of the images.
        texts: (N, E) unit vectors of the captions.
        owner: (N,) the client of each pair; -1: a pair that no client holds is left out.
        seed: of the shares.

    Returns:
        For image, text and joint; None for one client.
    """
    held = np.flatnonzero(owner >= 0)
    shuffled = owner[held][one_pass_order(len(held), seed + _SHUFFLE)]
    with threadpool_limits(1):
        sides = {metric: pair_sides(metric, images[held], texts[held])[0] for metric in METRICS[:3]}
        return {metric: _mean_frechet(x, shuffled) for metric, x in sides.items()}


def pair_sides(metric: str, v: Floats, t: Floats) -> tuple[Floats, Floats]:
    """Return x, y with s_ij = x_i . y_j, scaled so that pairs i = j with v_i = t_i have s = 1."""
    if metric in ("image", "text"):
        x = v if metric == "image" else t
        return x, x
    own, partner = np.concatenate([v, t], 1) / np.sqrt(2), np.concatenate([t, v], 1) / np.sqrt(2)
    return own, own if metric == "joint" else partner


def _within_between(x: Floats, y: Floats, owner: Indices) -> dict[str, float | None]:
    """Mean similarity inside and across clients, exactly, from sums over clients; None without such pairs of pairs."""
    if not len(owner):
        return {"within": None, "between": None, "gap": None}
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


def _silhouette(x: Floats, y: Floats, owner: Indices) -> float | None:
    """Mean silhouette, -1 to 1, by d_ij = (s_ii + s_jj)/2 - s_ij; None for one client, or one pair per client."""
    if not 1 < len(np.unique(owner)) < len(owner):
        return None
    itself = (x * y).sum(1)
    distances = np.maximum((itself[:, None] + itself) / 2 - x @ y.T, 0)
    np.fill_diagonal(distances, 0)
    return float(silhouette_score(distances, owner, metric="precomputed"))


Gaussian = tuple[Floats, Floats, Floats]  # mean (D,), covariance's trace (), R (n, D) with R^T R = the covariance


def _gaussian(x: Floats) -> Gaussian:
    """Mean, covariance's trace and R: X / sqrt(n), or its triangle of QR where that is smaller."""
    mean = x.mean(0)
    root = (x - mean) / np.sqrt(len(x))
    if len(root) > root.shape[1]:
        root = np.linalg.qr(root, mode="r")
    return mean, (root**2).sum(), root


def frechet(a: Gaussian, b: Gaussian) -> float:
    """Return the squared Fréchet distance of two Gaussians."""
    shared = np.linalg.svd(a[2] @ b[2].T, compute_uv=False).sum()
    return float(max(((a[0] - b[0]) ** 2).sum() + a[1] + b[1] - 2 * shared, 0.0))


def _mean_frechet(x: Floats, owner: Indices) -> float | None:
    return _between_clients([_gaussian(x[owner == client]) for client in np.unique(owner)], frechet)


def _shares(labels: NDArray[np.str_], owner: Indices) -> list[Floats]:
    """Per client, the share of each label among its pairs."""
    names, number = np.unique(labels, return_inverse=True)
    counts = [np.bincount(number[owner == client], minlength=len(names)) for client in np.unique(owner)]
    return [count / count.sum() for count in counts]


def total_variation(a: Floats, b: Floats) -> float:
    """Return half the summed differences of two distributions, 0 to 1."""
    return float(np.abs(a - b).sum() / 2)


def _between_clients(described: list[T], distance: Callable[[T, T], float]) -> float | None:
    """Mean over the pairs of clients; None where there are none."""
    distances = [distance(a, b) for a, b in itertools.combinations(described, 2)]
    return float(np.mean(distances)) if distances else None
