"""Clusters by similarity against the formulas, written with loops, and against all labellings of small sets."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from fedcmp.errors import UserError
from fedcmp.scenarios.clustering.clusters import _seeds, best_clusters, cross_clusters, spherical_clusters
from fedcmp.scenarios.clustering.vectors import MemoryVectors
from fedcmp.scenarios.partition import by_meaning
from tests.scenarios.mixtures import directions, groups_of, noise_like, numbers, unit


def objective(images, texts, labels):
    """J by the definition, pair by pair."""
    total = 0.0
    for label in set(labels):
        mine = [i for i, other in enumerate(labels) if other == label]
        cv, ct = (unit(half[mine].astype(np.float64).mean(0)[None])[0] for half in (images, texts))
        total += sum(float(images[i] @ ct + texts[i] @ cv) for i in mine)
    return total / len(labels)


def random_pairs(count, width, seed):
    rng = np.random.default_rng(seed)
    return unit(rng.normal(size=(count, width))), unit(rng.normal(size=(count, width)))


@pytest.mark.parametrize("groups", [2, 5, 20])
@pytest.mark.parametrize("seed", range(3))
def test_a_known_mixture_is_found(groups, seed):
    images, texts, truth = groups_of(groups, per=30, seed=seed)
    found = cross_clusters(images, texts, groups, seed=seed)
    assert adjusted_rand_score(truth, found.labels) >= 0.95


def test_pairs_that_fit_crosswise_belong_together():
    """Half of each group has picture and caption swapped: neither picture nor caption alone tells the groups."""
    rng = np.random.default_rng(0)
    axes = directions(4, 24, 0)
    truth, swapped = np.arange(400) % 2, np.arange(400) // 2 % 2
    first, second = axes[2 * truth + swapped], axes[2 * truth + 1 - swapped]
    images, texts = (unit(half + rng.normal(0, 0.05, half.shape)) for half in (first, second))
    found = cross_clusters(images, texts, 2, seed=1)
    assert adjusted_rand_score(truth, found.labels) >= 0.95
    by_picture = numbers(by_meaning([images.astype(np.float32)], 4, seed=1), 400)
    assert adjusted_rand_score(by_picture, 2 * truth + swapped) >= 0.95  # four clusters of pictures, not two


@pytest.mark.parametrize("seed", range(4))
def test_the_best_of_all_labellings_is_found(seed):
    images, texts, _ = groups_of(2, per=3, width=6, noise=0.25, seed=seed)
    found = cross_clusters(images, texts, 2, seed=seed, restarts=8)
    best = max(
        objective(images, texts, labels) for labels in itertools.product((0, 1), repeat=len(images)) if sum(labels) > 0
    )
    assert found.objective == pytest.approx(best, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.integers(1, 8), st.integers(2, 6), st.integers(0, 50), st.integers(1, 60))
def test_laws_of_any_partition(count, clients, width, seed, distinct):
    """Copies included: as few as one distinct pair."""
    images, texts = random_pairs(min(distinct, count), width, seed)
    images, texts = (np.resize(half, (count, width)) for half in (images, texts))
    if count < clients:
        with pytest.raises(UserError, match=rf"scenario\.clients = {clients}"):
            cross_clusters(images, texts, clients, seed=seed)
        return
    found = cross_clusters(images, texts, clients, seed=seed)
    assert sorted(set(found.labels.tolist())) == list(range(clients))
    assert len(found.labels) == count
    assert found.objective == max(found.trace) == max(found.starts)
    assert found.objective == pytest.approx(objective(images, texts, found.labels.tolist()), abs=1e-9)
    again = cross_clusters(images, texts, clients, seed=seed)
    assert again.trace == found.trace
    assert np.array_equal(again.labels, found.labels)


def test_the_objective_can_fall_and_the_best_labels_are_kept():
    falls = 0
    for seed in range(6):
        images, texts = random_pairs(300, 6, seed)
        found = cross_clusters(images, texts, 5, seed=seed)
        falls += any(later < earlier for earlier, later in itertools.pairwise(found.trace))
        assert objective(images, texts, found.labels.tolist()) == pytest.approx(max(found.trace), abs=1e-9)
    assert falls  # otherwise this test says nothing


def test_more_starts_are_never_worse():
    images, texts = random_pairs(200, 5, 1)
    one, four = (cross_clusters(images, texts, 6, seed=0, restarts=restarts) for restarts in (1, 4))
    assert one.objective == one.starts[0] == four.starts[0]
    assert four.objective == max(four.starts)
    assert len(set(four.starts)) > 1


def test_pictures_and_captions_play_the_same_part():
    images, texts, truth = groups_of(4, per=40, noise=0.1, seed=3)
    labels = [cross_clusters(*halves, 4, seed=0).labels for halves in ((images, texts), (texts, images))]
    assert adjusted_rand_score(*labels) == 1
    assert adjusted_rand_score(truth, labels[0]) == 1


def test_a_large_collection_starts_from_a_sample_and_ends_over_all_pairs():
    images, texts, truth = groups_of(5, per=300, noise=0.08, seed=2)
    vectors = MemoryVectors(np.concatenate([images, texts], 1), halves=True)
    whole = best_clusters(vectors, 5, seed=0)
    sampled = best_clusters(vectors, 5, seed=0, sample=100)
    assert len(sampled.labels) == len(truth)
    assert adjusted_rand_score(truth, sampled.labels) >= 0.95
    assert sampled.objective >= 0.99 * whole.objective
    assert np.array_equal(sampled.labels, best_clusters(vectors, 5, seed=0, sample=100, threads=3).labels)


def test_the_seed_matters_where_nothing_is_to_be_found():
    images, texts = random_pairs(200, 8, 0)
    first, second = (cross_clusters(images, texts, 5, seed=seed).labels for seed in (0, 1))
    assert adjusted_rand_score(first, second) < 0.9


def test_what_does_not_fit_is_refused():
    images, texts, _ = groups_of(2, per=5)
    with pytest.raises(ValueError, match="same shape"):
        cross_clusters(images, texts[1:], 2, seed=0)
    with pytest.raises(ValueError, match="restarts = 0"):
        cross_clusters(images, noise_like(texts), 2, seed=0, restarts=0)


@pytest.mark.parametrize("seed", range(4))
def test_spherical_clusters_never_lose_and_match_scikit_learn(seed):
    """From the same starts scikit-learn's k-means on unit vectors ends at most 1 % higher in the same objective."""
    vectors, _ = random_pairs(400, 12, seed)
    found = spherical_clusters(vectors, 5, seed=seed)
    assert all(later >= earlier - 1e-12 for earlier, later in itertools.pairwise(found.trace))
    best = 0.0
    for start in range(4):
        seeds = _seeds(vectors, vectors, 5, seed=seed, start=start)
        labels = KMeans(5, init=vectors[seeds], n_init=1).fit_predict(vectors)
        sums = np.array([vectors[labels == label].sum(0) for label in range(5)])
        best = max(best, float(np.linalg.norm(sums, axis=1).sum()) / len(vectors))
    assert found.objective >= 0.99 * best
    sums = np.array([vectors[found.labels == label].sum(0) for label in range(5)])
    assert found.objective == pytest.approx(np.linalg.norm(sums, axis=1).sum() / len(vectors))
