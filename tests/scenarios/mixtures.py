"""Synthetic pairs whose right partition is known."""

import numpy as np

from fedcmp.scenarios.clustering.vectors import PARTS_OF, MemoryVectors


def unit(points):
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def directions(count, width, seed):
    """Orthonormal rows."""
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(width, width)))[0][:count]


def groups_of(groups, per, width=48, noise=0.05, seed=0, gap=0.7):
    """(v, t, truth): pictures and captions of a group share a direction; all captions lie off by one more (the gap
    between the two halves of a dual encoder's space). Sizes differ: group g has per + 3 g pairs."""
    rng = np.random.default_rng(seed)
    axes = directions(groups + 1, width, seed)
    truth = np.repeat(np.arange(groups), [per + 3 * g for g in range(groups)])
    rng.shuffle(truth)
    images = axes[truth] + rng.normal(0, noise, (len(truth), width))
    texts = axes[truth] + gap * axes[-1] + rng.normal(0, noise, (len(truth), width))
    return unit(images).astype(np.float32), unit(texts).astype(np.float32), truth


def noise_like(embeddings, seed=9):
    """Unit vectors that say nothing."""
    return unit(np.random.default_rng(seed).normal(size=embeddings.shape)).astype(np.float32)


def numbers(holdings, count):
    """Holdings as one label a pair; -1 where nobody holds it."""
    labels = np.full(count, -1)
    for client, mine in enumerate(holdings):
        labels[mine] = client
    return labels


def memory_vectors(images, texts, similarity, *, dtype=np.float64):
    """Vectors of pairs whose (N, E) embeddings are in memory."""
    known = {"image": images, "text": texts}
    parts = [known[part] for part in PARTS_OF[similarity]]
    joined = np.concatenate(parts, 1).astype(dtype) if len(parts) > 1 else parts[0]
    scaled = joined / np.sqrt(2).astype(dtype) if similarity == "joint" else joined
    return MemoryVectors(scaled, halves=similarity == "cross", dtype=dtype)
