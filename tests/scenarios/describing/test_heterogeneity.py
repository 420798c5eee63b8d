"""The measures against their definitions, written with loops; about nothing for random shares, large for pure ones."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import silhouette_score

from fedcmp.scenarios.describing import heterogeneity as measures
from fedcmp.scenarios.describing.heterogeneity import (
    METRICS,
    frechet,
    frechet_of_random_shares,
    owner_of,
    total_variation,
)
from fedcmp.scenarios.describing.maps import map_of_sample
from fedcmp.scenarios.partition import by_number, even_shares
from tests.scenarios.mixtures import directions, groups_of, noise_like, unit


def heterogeneity(images, texts, holdings, **options):
    return measures.heterogeneity(images, texts, owner_of(holdings, len(images)), len(holdings), **options)


def map_of_pairs(images, texts, holdings, **options):
    return map_of_sample(images, texts, owner_of(holdings, len(images)), **options)


def similarity(metric, v, t, i, j):
    parts = {
        "image": v[i] @ v[j],
        "text": t[i] @ t[j],
        "joint": (v[i] @ v[j] + t[i] @ t[j]) / 2,
        "cross": (v[i] @ t[j] + t[i] @ v[j]) / 2,
    }
    return float(parts[metric])


@pytest.fixture(scope="module")
def mixture():
    images, texts, truth = groups_of(5, per=120, noise=0.1, seed=1)
    return images, texts, truth, by_number(truth, 5)


def small(seed=0, count=40, clients=3):
    rng = np.random.default_rng(seed)
    images, texts = unit(rng.normal(size=(count, 5))), unit(rng.normal(size=(count, 5)))
    labels = np.concatenate([np.arange(clients), rng.integers(0, clients, count - clients)])
    return images, texts, labels, by_number(labels, clients)


@pytest.mark.parametrize("metric", METRICS)
def test_similarity_within_and_between_clients(metric):
    images, texts, labels, holdings = small()
    within, between = [], []
    for i, j in itertools.permutations(range(len(labels)), 2):
        (within if labels[i] == labels[j] else between).append(similarity(metric, images, texts, i, j))
    got = heterogeneity(images, texts, holdings)["similarity"][metric]
    assert got["within"] == pytest.approx(np.mean(within), abs=1e-12)
    assert got["between"] == pytest.approx(np.mean(between), abs=1e-12)
    assert got["gap"] == got["within"] - got["between"]


@pytest.mark.parametrize("metric", METRICS)
def test_silhouette(metric):
    images, texts, labels, holdings = small()
    distances = np.zeros((len(labels), len(labels)))
    for i, j in itertools.permutations(range(len(labels)), 2):
        own = (similarity(metric, images, texts, i, i) + similarity(metric, images, texts, j, j)) / 2
        distances[i, j] = max(0, own - similarity(metric, images, texts, i, j))
    expected = silhouette_score(distances, labels, metric="precomputed")
    assert heterogeneity(images, texts, holdings)["silhouette"][metric] == pytest.approx(expected, abs=1e-12)
    if metric in ("image", "text"):  # the library's own cosine distance is the same
        points = images if metric == "image" else texts
        assert silhouette_score(points, labels, metric="cosine") == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("count", [12, 90])  # fewer and more pairs per client than the embeddings are wide
@pytest.mark.parametrize("metric", METRICS[:3])
def test_frechet_distance(metric, count):
    images, texts, labels, holdings = small(count=count)
    points = {"image": images, "text": texts, "joint": np.concatenate([images, texts], 1) / np.sqrt(2)}[metric]
    distances = []
    for a, b in itertools.combinations(range(3), 2):
        one, two = points[labels == a], points[labels == b]
        c, d = np.cov(one.T, bias=True), np.cov(two.T, bias=True)
        shared = np.sqrt(np.maximum(np.linalg.eigvals(c @ d).real, 0)).sum()
        distances.append(((one.mean(0) - two.mean(0)) ** 2).sum() + np.trace(c) + np.trace(d) - 2 * shared)
    assert heterogeneity(images, texts, holdings)["frechet"][metric] == pytest.approx(np.mean(distances), abs=1e-6)


def test_frechet_distance_of_round_gaussians():
    """|m_a - m_b|^2 + D (s_a - s_b)^2."""
    a, b = ((mean * np.ones(4), 4 * scale**2, scale * np.eye(4)) for mean, scale in ((0.0, 1.0), (0.5, 3.0)))
    assert frechet(a, b) == pytest.approx(4 * 0.25 + 4 * 4)
    assert frechet(a, a) == pytest.approx(0, abs=1e-12)


def test_total_variation_of_labels():
    assert total_variation(np.array([0.5, 0.5, 0]), np.array([0.25, 0.25, 0.5])) == 0.5
    images, texts, _, _ = small(count=8)
    holdings = [np.arange(4), np.arange(4, 6), np.arange(6, 8)]
    families = ["a", "a", "b", "b", "a", "a", "c", "c"]
    got = heterogeneity(images, texts, holdings, labels={"family": families, "style": ["x"] * 8})["total_variation"]
    assert got == {"family": pytest.approx((0.5 + 1 + 1) / 3), "style": 0}


def test_alignment_falls_where_captions_are_wrong(mixture):
    images, texts, _, holdings = mixture
    wrong = texts.copy()
    wrong[holdings[1]] = noise_like(texts[holdings[1]])
    right, spoilt = (heterogeneity(images, half, holdings)["alignment"] for half in (texts, wrong))
    assert right == [pytest.approx(float((images[m] * texts[m]).sum(1).mean()), abs=1e-6) for m in holdings]
    assert abs(spoilt[1]) < 0.1 < min(right)
    assert spoilt[0] == right[0]


def test_random_shares_are_alike_and_pure_ones_are_not(mixture):
    images, texts, truth, pure = mixture
    labels = {"family": truth.astype(str).tolist()}
    random = heterogeneity(images, texts, even_shares(len(truth), 5, seed=0), labels=labels)
    apart = heterogeneity(images, texts, pure, labels=labels)
    for metric in METRICS:
        assert abs(random["similarity"][metric]["gap"]) < 0.01
        assert -0.1 < random["silhouette"][metric] < 0.02  # a little under 0: each group is cut through
        assert apart["similarity"][metric]["gap"] > 0.3
        assert apart["silhouette"][metric] > 0.3
    for metric in METRICS[:3]:
        assert random["frechet"][metric] < 0.2 < 0.5 < apart["frechet"][metric]
    assert random["total_variation"]["family"] < 0.15
    assert apart["total_variation"]["family"] == 1


@settings(max_examples=25, deadline=None)
@given(st.integers(4, 60), st.integers(1, 4), st.integers(0, 20))
def test_the_order_of_clients_changes_nothing_and_all_is_plain_json(count, clients, seed):
    images, texts, labels, holdings = small(seed, count, clients)
    names = {"group": [str(label % 2) for label in labels]}
    first = heterogeneity(images, texts, holdings, labels=names, sample=30)
    turned = heterogeneity(images, texts, holdings[::-1], labels=names, sample=30)
    assert json.loads(json.dumps(first, allow_nan=False)) == first
    assert turned["alignment"] == first["alignment"][::-1]
    for measure in ("similarity", "silhouette", "frechet", "total_variation"):
        for name, value in first[measure].items():
            for key, number in (value if isinstance(value, dict) else {"": value}).items():
                other = turned[measure][name][key] if key else turned[measure][name]
                assert other == (None if number is None else pytest.approx(number, abs=1e-9)), (measure, name, key)
    assert heterogeneity(images, texts, holdings, labels=names, sample=30) == first


def test_one_client_or_clients_of_one_pair_have_no_such_measures():
    images, texts, _, _ = small()
    alone = heterogeneity(images, texts, [np.arange(40)])
    assert alone["silhouette"]["image"] is alone["frechet"]["text"] is alone["similarity"]["cross"]["between"] is None
    single = heterogeneity(images, texts, [np.array([3]), np.array([7])])
    assert single["silhouette"]["image"] is single["similarity"]["image"]["within"] is None
    expected = float(((images[3] - images[7]) ** 2).sum())
    assert single["frechet"]["image"] == pytest.approx(expected)


def test_pairs_that_nobody_holds_are_left_out():
    images, texts, _, holdings = small()
    part = [mine[mine < 30] for mine in holdings]
    whole = heterogeneity(images[:30], texts[:30], part)
    assert heterogeneity(images, texts, part) == whole


@pytest.mark.parametrize(
    ("holdings", "message"),
    [
        ([], "client 0: holds no pairs"),
        ([np.arange(3), np.arange(0)], "client 1: holds no pairs"),
        ([np.arange(3), np.arange(2, 5)], "held once"),
        ([np.arange(3), np.array([40])], "numbers 0 to 39"),
    ],
)
def test_holdings_that_do_not_fit_are_refused(holdings, message):
    with pytest.raises(ValueError, match=message):
        owner_of(holdings, 40)


def test_labels_that_do_not_fit_are_refused():
    images, texts, _, holdings = small()
    with pytest.raises(ValueError, match="style: 3 entries for 40 pairs"):
        heterogeneity(images, texts, holdings, labels={"style": ["x"] * 3})
    with pytest.raises(ValueError, match="texts: 39 entries for 40 pairs"):
        heterogeneity(images, texts[1:], holdings)


def test_a_map_keeps_pure_clients_apart(mixture):
    images, texts, _, holdings = mixture
    flat = map_of_pairs(images, texts, holdings, metric="joint", sample=300)
    assert json.loads(json.dumps(flat, allow_nan=False)) == flat
    assert flat["metric"] == "joint"
    assert len(flat["x"]) == len(flat["y"]) == len(flat["client"]) == 300
    assert silhouette_score(np.stack([flat["x"], flat["y"]], 1), flat["client"]) > 0.5


def test_a_map_is_the_same_every_time_and_follows_its_seed(mixture):
    images, texts, _, holdings = mixture
    maps = [map_of_pairs(images, texts, holdings, metric="image", seed=seed, sample=60) for seed in (1, 1, 2)]
    assert maps[0] == maps[1] != maps[2]
    assert maps[0]["client"] != maps[2]["client"]


def test_what_cannot_be_mapped():
    images, texts, _, holdings = small()
    with pytest.raises(ValueError, match="a map can be of image, text, joint, cross"):
        map_of_pairs(images, texts, holdings, metric="sound")
    assert map_of_pairs(images[:7], texts[:7], [np.arange(7)]) is None
    assert map_of_pairs(images[[0] * 40], texts[[0] * 40], holdings) is None


def sharpest(v, t, owner):
    found = measures.heterogeneity(v, t, owner, len(np.unique(owner)))["silhouette"]
    return max(found, key=lambda metric: found[metric])


def noisy(points, seed=0):
    return unit(points + np.random.default_rng(seed).normal(0, 0.02, points.shape))


def test_random_shares_are_nearer_than_clients_and_fall_with_more_pairs():
    floors = []
    for per in (20, 200):
        images, texts, truth = groups_of(3, per)
        between_clients = measures.heterogeneity(images, texts, truth, 3)["frechet"]["joint"]
        floors.append(frechet_of_random_shares(images.astype(float), texts.astype(float), truth)["joint"])
        assert floors[-1] < 0.3 * between_clients
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


def test_a_client_without_pairs_or_no_pair_at_all_has_no_measure():
    images, texts, truth = groups_of(2, 6)
    assert measures.heterogeneity(images, texts, truth, 3)["alignment"][2] is None
    none = measures.heterogeneity(images[:0], texts[:0], truth[:0], 2)
    assert none["silhouette"]["image"] is none["similarity"]["image"]["gap"] is none["frechet"]["text"] is None
    alone = frechet_of_random_shares(images.astype(float), texts.astype(float), np.zeros(len(images), np.int64))
    assert alone == {"image": None, "text": None, "joint": None}
