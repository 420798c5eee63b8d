"""Ways to partition one collection of pairs among K clients: evenly, by meaning, or by a label; and wrong captions.

Shapes: N pairs, E embedding width, K clients.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedcmp.data.batches import one_pass_order
from fedcmp.errors import UserError
from fedcmp.scenarios.clustering.clusters import spherical_clusters
from fedcmp.scenarios.manifest import Indices

Embeddings = NDArray[np.float32]
_WRONG = 0x77726F6E67  # keeps the draws of wrong captions apart from the order of the pairs, which has the same seed


def even_shares(num_pairs: int, clients: int, *, seed: int) -> list[Indices]:
    """IID: a random K-th for each client."""
    order = one_pass_order(num_pairs, seed)
    return [np.sort(part) for part in np.array_split(order, clients)]


def by_meaning(embeddings: Sequence[Embeddings], clients: int, *, seed: int) -> list[Indices]:
    """Spherical k-means (clustering/clusters.py): pairs with like embeddings go to the same client.

    Args:
        embeddings: one or more (N, E) arrays of unit vectors; several are laid side by side, so that their cosine
            similarities add up (scenario "joint": pictures and captions).
        clients: K.
        seed: of the centroids' start.

    Returns:
        Per client, ascending indices.

    Raises:
        UserError: fewer pairs than clients.
    """
    stacked = np.concatenate(embeddings, 1) / np.sqrt(len(embeddings))
    return by_number(spherical_clusters(stacked, clients, seed=seed).labels, clients)


def by_number(labels: NDArray[np.integer], clients: int) -> list[Indices]:
    """Clusters' numbers, one a pair, as ascending indices, one array a client."""
    return [np.flatnonzero(labels == client) for client in range(clients)]


def by_label(labels: list[str], clients: int) -> list[Indices]:
    """Pure shards: each label belongs to one client, dealt out largest first to the client with the fewest pairs.

    Raises:
        UserError: more clients than labels.
    """
    names, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if len(names) < clients:
        raise UserError(f"scenario.clients = {clients}: only {len(names)} different labels ({', '.join(names)})")
    held: list[list[int]] = [[] for _ in range(clients)]
    sizes = np.zeros(clients, np.int64)
    for label in np.argsort(-counts, kind="stable"):
        client = int(sizes.argmin())
        held[client].append(int(label))
        sizes[client] += counts[label]
    return [np.flatnonzero(np.isin(inverse, mine)) for mine in held]


def swap_captions(holdings: list[Indices], shares: dict[int, float], *, seed: int) -> dict[int, int]:
    """Wrong captions: a share of a client's captions, moved around a cycle among its own pairs.

    Args:
        holdings: per client, its pairs.
        shares: client -> share of its captions to be wrong.
        seed: which ones.

    Returns:
        pair -> the pair whose caption it carries; its pairs lie evenly over the rounds.
    """
    swapped: dict[int, int] = {}
    for client, share in sorted(shares.items()):
        mine = one_pass_order(holdings[client], seed + _WRONG)
        chosen = mine[: round(share * len(mine))]
        if len(chosen) > 1:
            swapped.update(zip(chosen.tolist(), np.roll(chosen, 1).tolist(), strict=True))
    return swapped
