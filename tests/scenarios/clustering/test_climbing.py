"""Bounds skip work, never a move: the plain algorithm, written with loops, ends with the same labels."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

from fedcmp.scenarios.clustering.climbing import climb, own_similarity
from fedcmp.scenarios.clustering.vectors import MemoryVectors
from tests.scenarios.mixtures import groups_of, memory_vectors, unit


def plain(own, partner, centroids, halves, steps=200):
    """Assign and average until labels come again; labels and objective of the best step."""
    seen, best, trace = [], None, []
    for _ in range(steps):
        labels = (own @ centroids.T).argmax(1)
        if any(np.array_equal(labels, other) for other in seen):
            break
        if len(np.unique(labels)) < len(centroids):
            return None, []  # a cluster ran empty, for which the plain algorithm knows no mend
        seen.append(labels)
        sums = np.array([partner[labels == c].sum(0) for c in range(len(centroids))])
        parts = np.split(sums, 2 if halves else 1, axis=1)
        centroids = np.concatenate([part / np.linalg.norm(part, axis=1, keepdims=True) for part in parts], 1)
        objective = float(np.mean([own[i] @ centroids[labels[i]] for i in range(len(own))]))
        if not trace or objective > max(trace):
            best = labels
        trace.append(objective)
    return best, trace


def pairs(count, width, seed):
    rng = np.random.default_rng(seed)
    return (unit(rng.normal(size=(count, width))) for _ in range(2))


@settings(max_examples=30, deadline=None)
@given(st.integers(30, 200), st.integers(2, 6), st.integers(3, 9), st.integers(0, 99), st.booleans())
def test_the_labels_are_those_of_the_plain_algorithm(count, clusters, width, seed, halves):
    images, texts = pairs(count, width, seed)
    vectors = memory_vectors(images, texts, "cross" if halves else "image")
    own = vectors.rows(0, count)
    partner = vectors.partners(own)
    labels, trace = plain(own, partner, partner[:clusters], halves)
    assume(labels is not None)
    found = climb(vectors, partner[:clusters], threads=2)
    assert found.trace == pytest.approx(trace, abs=1e-9)
    assert adjusted_rand_score(found.labels, labels) == 1  # steps of equal objective may differ in the numbers given


@pytest.mark.parametrize("similarity", ["image", "text", "joint", "cross"])
def test_single_precision_ends_as_double_and_threads_change_no_bit(similarity):
    images, texts, _ = groups_of(6, per=80, width=32, noise=0.2, seed=3)
    exact = memory_vectors(images, texts, similarity)
    seeds = exact.partners(exact.rows(0, len(exact)))[::97][:6]
    double = climb(exact, seeds)
    single = [climb(memory_vectors(images, texts, similarity, dtype=np.float32), seeds, threads=n) for n in (1, 2, 5)]
    assert np.array_equal(double.labels, single[0].labels)
    for other in single[1:]:
        assert np.array_equal(other.labels, single[0].labels)
        assert np.array_equal(other.centroids, single[0].centroids)
        assert other.trace == single[0].trace


def test_most_pairs_are_not_read_again():
    images, texts, _ = groups_of(5, per=400, width=32, noise=0.3, seed=0)
    vectors = memory_vectors(images, texts, "image")
    found = climb(vectors, vectors.rows(0, len(vectors))[:5])
    assert len(found.trace) > 4
    assert found.read < 0.6


def test_steps_are_watched():
    images, texts, _ = groups_of(3, per=30)
    vectors = memory_vectors(images, texts, "joint")
    told = []
    found = climb(vectors, vectors.rows(0, 3), watch=lambda *step: told.append(step))
    assert [value for _, _, value in told] == found.trace
    assert told[0][:2] == (1, len(vectors))


def test_an_empty_cluster_gets_the_worst_fitting_pair():
    points = unit(np.eye(3)[[0, 0, 0, 0, 1]] + np.array([[0, 0, 0.1 * i] for i in range(5)]))
    found = climb(MemoryVectors(points), points[[0, 0]])  # two equal centroids: the second gets nothing
    assert sorted(np.bincount(found.labels).tolist()) == [1, 4]
    assert (found.labels == found.labels[4]).sum() == 1


def test_similarity_to_the_own_centroid_is_that_of_the_formula():
    images, texts = pairs(50, 8, 1)
    vectors = memory_vectors(images, texts, "cross")
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 50)
    cv, ct = unit(rng.normal(size=(3, 8))), unit(rng.normal(size=(3, 8)))
    found = own_similarity(vectors, np.concatenate([ct, cv], 1), labels)
    assert found == pytest.approx([images[i] @ ct[labels[i]] + texts[i] @ cv[labels[i]] for i in range(50)])


def test_more_clusters_than_vectors_are_refused():
    points = unit(np.ones((2, 3)))
    with pytest.raises(ValueError, match="3 clusters for 2 vectors"):
        climb(MemoryVectors(points), np.eye(3))
