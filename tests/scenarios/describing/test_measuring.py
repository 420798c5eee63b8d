import numpy as np
import pytest

from fedcmp.scenarios.describing.measuring import measure
from fedcmp.scenarios.heterogeneity import METRICS, heterogeneity
from tests.scenarios.mixtures import directions, groups_of, unit


def sharpest(v, t, owner):
    found = measure(v, t, owner, len(np.unique(owner)), seed=0)["silhouette"]
    return max(found, key=lambda metric: found[metric])


def noisy(points, seed=0):
    return unit(points + np.random.default_rng(seed).normal(0, 0.02, points.shape))


@pytest.mark.parametrize("per", [12, 60])  # fewer and more pairs a client than the embeddings are wide
def test_the_measures_are_those_of_whole_divisions(per):
    images, texts, truth = groups_of(3, per, width=24, noise=0.2)
    v, t = images.astype(np.float64), texts.astype(np.float64)
    found = measure(v, t, truth, 3, seed=0)
    known = heterogeneity(v, t, [np.flatnonzero(truth == k) for k in range(3)], sample=len(v))
    assert found["alignment"] == pytest.approx(known["alignment"])
    for metric in METRICS:
        assert found["similarity"][metric] == pytest.approx(known["similarity"][metric])
        assert found["silhouette"][metric] == pytest.approx(known["silhouette"][metric])
    for metric, value in known["frechet"].items():
        assert found["frechet"][metric]["clients"] == pytest.approx(value, abs=1e-6)


def test_random_shares_are_nearer_than_clients_and_fall_with_more_pairs():
    floors = []
    for per in (20, 200):
        images, texts, truth = groups_of(3, per)
        found = measure(images.astype(float), texts.astype(float), truth, 3, seed=0)["frechet"]["joint"]
        assert found["random"] < 0.3 * found["clients"]
        floors.append(found["random"])
    assert floors[1] < 0.3 * floors[0]


def test_clients_cut_by_pictures_are_sharpest_by_pictures_and_by_captions_by_captions():
    axes = directions(6, 24, 1)
    by_picture, by_caption = np.repeat([0, 1, 2], 40), np.tile([3, 4, 5], 40)
    v, t = noisy(axes[by_picture]), noisy(axes[by_caption], 1)
    assert sharpest(v, t, by_picture) == "image"
    assert sharpest(v, t, by_caption - 3) == "text"
    assert sharpest(v, t, 3 * by_picture + by_caption - 3) == "joint"


def test_clients_whose_pictures_fit_each_others_captions_are_sharpest_by_cross():
    # a client has two kinds of pairs, (p, q) and (q, p): by pictures alone, or captions, these lie apart
    axes, rng = directions(6, 24, 2), np.random.default_rng(0)
    owner, kind = np.repeat([0, 1, 2], 40), rng.integers(0, 2, 120)
    p, q = axes[2 * owner], unit(0.5 * axes[2 * owner] + np.sqrt(0.75) * axes[2 * owner + 1])
    v = noisy(np.where(kind[:, None] == 0, p, q))
    t = noisy(np.where(kind[:, None] == 0, q, p), 1)
    assert sharpest(v, t, owner) == "cross"


def test_what_has_no_meaning_is_none():
    images, texts, truth = groups_of(2, 6)
    v, t = images.astype(float), texts.astype(float)
    alone = measure(v, t, np.zeros(len(v), np.int64), 1, seed=0)
    assert alone["similarity"]["image"] is None
    assert alone["silhouette"]["cross"] is None
    assert alone["frechet"]["text"] == {"clients": None, "random": None}
    assert measure(v, t, truth, 3, seed=0)["alignment"][2] is None
    assert measure(v[:0], t[:0], truth[:0], 2, seed=0)["silhouette"]["image"] is None
