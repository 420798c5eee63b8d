import numpy as np
import pytest

from fedcmp.scenarios.describing.maps import distances, map_of
from tests.scenarios.mixtures import groups_of, noise_like

METRICS = ("image", "text", "joint", "cross")


def small(per=25):
    images, texts, truth = groups_of(3, per, width=16)
    return images.astype(np.float64), texts.astype(np.float64), truth


def similarity(metric, v, t, i, j):
    return {
        "image": v[i] @ v[j],
        "text": t[i] @ t[j],
        "joint": (v[i] @ v[j] + t[i] @ t[j]) / 2,
        "cross": (v[i] @ t[j] + t[i] @ v[j]) / 2,
    }[metric]


@pytest.mark.parametrize("metric", METRICS)
def test_distances_are_those_of_the_silhouette(metric):
    v, t, _ = small(3)
    found = distances(v, t, metric)
    for i in range(len(v)):
        for j in range(len(v)):
            itself = (similarity(metric, v, t, i, i) + similarity(metric, v, t, j, j)) / 2
            d = max(itself - similarity(metric, v, t, i, j), 0.0) if i != j else 0.0
            assert found[i, j] == pytest.approx(np.sqrt(2 * d), abs=1e-7)


def test_a_kernels_distances_are_euclidean():
    v, t, _ = small(4)
    assert distances(v, t, "image") == pytest.approx(np.linalg.norm(v[:, None] - v, axis=2), abs=1e-7)
    both = np.concatenate([v, t], 1) / np.sqrt(2)
    assert distances(v, t, "joint") == pytest.approx(np.linalg.norm(both[:, None] - both, axis=2), abs=1e-7)


@pytest.mark.parametrize("metric", METRICS)
def test_neighbours_on_the_map_are_of_one_group(metric):
    v, t, truth = small()
    layout = map_of(v, t, metric, seed=0)
    apart = np.linalg.norm(layout[:, None] - layout, axis=2)
    np.fill_diagonal(apart, np.inf)
    assert (truth[apart.argmin(1)] == truth).mean() > 0.95


def test_a_seed_gives_one_map():
    v, t, _ = small(15)
    first, again, other = (map_of(v, t, "cross", seed=seed) for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_too_few_pairs_or_all_alike_have_no_map():
    v, t, _ = small()
    assert map_of(v[:7], t[:7], "image", seed=0) is None
    assert map_of(np.tile(v[:1], (20, 1)), t[:20], "image", seed=0) is None
    assert map_of(v[:8], noise_like(t)[:8], "text", seed=0) is not None
