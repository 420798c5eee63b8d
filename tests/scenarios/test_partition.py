import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

from fedcmp.data.batches import one_pass_order, round_parts
from fedcmp.errors import UserError
from fedcmp.scenarios.manifest import Manifest
from fedcmp.scenarios.partition import by_label, by_meaning, by_number, even_shares, swap_captions
from tests.scenarios.mixtures import groups_of, noise_like, numbers


def covers(parts, count):
    together = np.concatenate(parts)
    return len(together) == count and set(together.tolist()) == set(range(count))


@given(st.integers(1, 200), st.integers(1, 8), st.integers(0, 5))
def test_even_shares_cover_everything_once(count, clients, seed):
    parts = even_shares(count, clients, seed=seed)
    assert covers(parts, count)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def blobs(per=30, seed=0):
    rng = np.random.default_rng(seed)
    centres = np.eye(4, 16) * 5
    points = np.concatenate([centre + rng.normal(0, 0.3, (per, 16)) for centre in centres])
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


def test_like_pairs_go_to_the_same_client():
    parts = by_meaning([blobs()], 4, seed=0)
    assert covers(parts, 120)
    assert sorted(sorted(set((part // 30).tolist())) for part in parts) == [[0], [1], [2], [3]]


def test_the_same_seed_gives_the_same_clusters():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(300, 8)).astype(np.float32)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    first, second = (by_meaning([points, points[::-1]], 5, seed=3) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_joint_adds_the_two_similarities():
    """Pairs that differ in either half are apart; those that agree in both are together."""
    image, text = blobs(), blobs()[::-1]
    assert covers(by_meaning([image, text], 4, seed=0), 120)
    joint = np.concatenate([image, text], 1) / np.sqrt(2)
    np.testing.assert_allclose(joint @ joint.T, (image @ image.T + text @ text.T) / 2, atol=1e-5)


@pytest.mark.parametrize("kind", ["image", "text", "joint"])
@pytest.mark.parametrize("groups", [3, 5])
def test_a_known_mixture_is_found(kind, groups):
    """Image and text see one half only, and the other says nothing; joint needs both: each half tells half of it."""
    images, texts, truth = groups_of(groups, per=40, noise=0.08, seed=groups)
    if kind == "joint":
        rng = np.random.default_rng(0)
        other = rng.integers(0, 2, len(truth))
        texts = np.stack([texts[rng.choice(np.flatnonzero(truth == side))] for side in other])
        truth = 2 * truth + other
    parts = {"image": [images], "text": [texts], "joint": [images, texts]}[kind]
    unused = noise_like(texts if kind == "image" else images)
    labels = numbers(by_meaning(parts, len(np.unique(truth)), seed=1), len(truth))
    assert adjusted_rand_score(truth, labels) >= 0.95
    if kind != "joint":
        assert adjusted_rand_score(truth, numbers(by_meaning([unused], groups, seed=1), len(truth))) < 0.1


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 60), st.integers(1, 6), st.integers(0, 9))
def test_clusters_cover_everything_once(count, clients, seed):
    points = noise_like(np.empty((max(count, clients), 4)), seed)
    parts = by_meaning([points, points[::-1]], clients, seed=seed)
    assert len(parts) == clients
    assert all(len(part) for part in parts)
    assert covers(parts, len(points))


def test_numbers_become_holdings():
    assert [mine.tolist() for mine in by_number(np.array([2, 0, 2, 1]), 4)] == [[1], [3], [0, 2], []]


def test_more_clients_than_pairs_is_an_error():
    with pytest.raises(UserError, match=r"scenario\.clients = 9"):
        by_meaning([blobs(per=2)], 9, seed=0)


def test_pure_shards_keep_a_label_whole():
    labels = ["a"] * 50 + ["b"] * 30 + ["c"] * 25 + ["d"] * 5
    parts = by_label(labels, 2)
    assert covers(parts, 110)
    owners = [{labels[i] for i in part} for part in parts]
    assert owners[0].isdisjoint(owners[1])
    assert sorted(map(len, parts)) == [55, 55]
    with pytest.raises(UserError, match="only 4 different labels"):
        by_label(labels, 5)


@settings(max_examples=30)
@given(st.floats(0, 1), st.integers(0, 9))
def test_swapped_captions_stay_with_their_client(share, seed):
    holdings = [np.arange(0, 40), np.arange(40, 100)]
    swapped = swap_captions(holdings, {1: share}, seed=seed)
    assert set(swapped) == set(swapped.values())
    assert all(40 <= pair < 100 for pair in swapped)
    assert all(pair != source for pair, source in swapped.items())
    assert abs(len(swapped) - share * 60) < 2  # one wrong caption alone has nobody to change with


def test_wrong_captions_lie_evenly_over_the_rounds():
    """Also where a client's pairs are numbered from 0 on, and the run's seed orders them for training."""
    holdings = [np.arange(2000)]
    for seed in range(3):
        swapped = swap_captions(holdings, {0: 0.5}, seed=seed)
        parts = round_parts(one_pass_order(holdings[0], seed), 4)
        shares = [np.mean([pair in swapped for pair in part.tolist()]) for part in parts]
        assert max(abs(share - 0.5) for share in shares) < 0.12, shares


def test_manifest_comes_back_from_its_file(tmp_path):
    import json

    manifest = Manifest(["a", "b"], [np.array([0, 2]), np.array([1])], {0: 2, 2: 0})
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(manifest.content()))
    back = Manifest.read(path)
    assert back.hash() == manifest.hash()
    assert back.swapped == manifest.swapped
    path.write_text("{}")
    with pytest.raises(UserError, match="not a readable manifest"):
        Manifest.read(path)
