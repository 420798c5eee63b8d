"""From embeddings to clients and rounds: laws of every partition, and the options' errors."""

import json

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

from fedcmp.errors import UserError
from fedcmp.scenarios.building import BuildOptions, build_scenario, dirichlet_shares, nearest_first
from tests.scenarios.folders import embedding_folder
from tests.scenarios.mixtures import groups_of, unit


@pytest.fixture(scope="module")
def mixture(tmp_path_factory):
    images, texts, truth = groups_of(5, per=60, noise=0.08, seed=1)
    return embedding_folder(tmp_path_factory.mktemp("mixture") / "EMB", images, texts), truth


def holders(scenario, names):
    """One client's number a pair, -1 where nobody trains on it."""
    owner = {name: k for k, client in enumerate(scenario.clients) for ids in client.rounds for name in ids}
    return np.array([owner.get(name, -1) for name in names])


@pytest.mark.parametrize("similarity", ["image", "text", "joint", "cross"])
def test_clusters_of_a_known_mixture_become_the_clients(mixture, similarity):
    folder, truth = mixture
    found = build_scenario(folder, BuildOptions(similarity=similarity, held_out=0.0))
    assert adjusted_rand_score(truth, holders(found, folder.ids())) >= 0.95
    assert found.facts["objective"] == max(found.facts["trace"])


@settings(max_examples=25, deadline=None)
@given(
    division=st.sampled_from(["clusters", "iid", "dirichlet", "sizes"]),
    similarity=st.sampled_from(["image", "cross"]),
    clients=st.integers(1, 6),
    rounds=st.integers(1, 4),
    cap=st.none() | st.integers(16, 80),
    seed=st.integers(0, 1000),
    held_out=st.sampled_from([0.0, 0.1]),
)
def test_every_kept_id_has_one_client_and_one_round(
    mixture, division, similarity, clients, rounds, cap, seed, held_out
):
    folder, _ = mixture
    sizes = tuple(20 + 5 * k for k in range(clients)) if division == "sizes" else ()
    groups = 9 if division == "dirichlet" else None
    options = BuildOptions(
        similarity, division, clients, cap, rounds, seed, held_out, restarts=1, alpha=2.0, groups=groups, sizes=sizes
    )
    try:
        found = build_scenario(folder, options)
    except UserError as error:
        assume("fewer than --rounds" not in str(error))  # a Dirichlet draw, or a cluster, can be that small
        raise
    names = set(folder.ids())
    kept = [name for client in found.clients for ids in (*client.rounds, client.held_out) for name in ids]
    assert len(kept) == len(set(kept))
    assert set(kept) <= names
    for client in found.clients:
        whole = client.size + len(client.held_out)
        assert cap is None or whole <= cap
        assert len(client.rounds) == rounds
        assert max(map(len, client.rounds)) - min(map(len, client.rounds)) <= 1
        assert len(client.held_out) == (max(1, round(held_out * whole)) if held_out else 0)
    left_out = sum(client.pruned for client in found.clients)
    if division != "sizes":
        assert len(kept) + left_out == len(names)
    elif cap is None:
        assert [client.size + len(client.held_out) for client in found.clients] == list(sizes)


def test_a_cap_keeps_the_nearest(mixture):
    folder, _ = mixture
    whole = build_scenario(folder, BuildOptions(held_out=0.0))
    capped = build_scenario(folder, BuildOptions(cap=40, held_out=0.0))
    names = folder.ids()
    images = folder.rows("image", 0, len(folder)).astype(np.float64)
    owner, kept = holders(whole, names), holders(capped, names)
    for client in range(5):
        mine = np.flatnonzero(owner == client)
        fits = images[mine] @ unit(images[mine].mean(0, keepdims=True))[0]
        nearest = mine[np.argsort(-fits, kind="stable")][:40]
        # float32 and float64 may order two pairs at the border otherwise
        assert len(set(nearest.tolist()) & set(np.flatnonzero(kept == client).tolist())) >= 39
        assert capped.clients[client].pruned == len(mine) - 40


def test_nearest_first_breaks_ties_by_number():
    ranked = nearest_first(np.array([0, 1, 0, 0]), np.array([0.5, 0.1, 0.9, 0.5]), 2)
    assert [mine.tolist() for mine in ranked] == [[2, 0, 3], [1]]


def test_centroids_are_the_normalised_means_of_what_is_kept(mixture):
    folder, _ = mixture
    found = build_scenario(folder, BuildOptions(similarity="joint", cap=50))
    names = folder.ids()
    for part in ("image", "text"):
        rows = folder.rows(part, 0, len(folder)).astype(np.float64)
        for number, client in enumerate(found.clients):
            mine = [names.index(name) for ids in (*client.rounds, client.held_out) for name in ids]
            assert found.centroids[part][number] == pytest.approx(unit(rows[mine].mean(0, keepdims=True))[0], abs=1e-5)


def test_a_small_alpha_makes_clients_unlike():
    labels = np.repeat(np.arange(20), 50)

    def unlikeness(alpha):
        shares = dirichlet_shares(labels, 5, alpha=alpha, seed=3)
        assert sorted(np.concatenate(shares).tolist()) == list(range(1000))
        table = np.array([np.bincount(labels[mine], minlength=20) for mine in shares])
        return (table.max(0) / 50).mean()

    assert unlikeness(0.05) > 0.8 > 0.5 > unlikeness(100.0)


def test_dirichlet_shares_have_the_distributions_moments():
    labels = np.repeat(np.arange(400), 1000)
    shares = dirichlet_shares(labels, 4, alpha=0.5, seed=0)
    table = np.array([np.bincount(labels[mine], minlength=400) for mine in shares]) / 1000
    assert table.mean(1) == pytest.approx([0.25] * 4, abs=0.05)
    variance = 0.25 * 0.75 / (4 * 0.5 + 1)  # of a Dirichlet's component
    assert table.var(1) == pytest.approx([variance] * 4, rel=0.2)


def test_a_client_of_several_clusters_meets_all_of_them_in_every_round():
    labels = np.repeat(np.arange(2), 4000)
    for mine in dirichlet_shares(labels, 3, alpha=5.0, seed=1):
        whole = labels[mine].mean()
        for part in np.array_split(mine, 4):  # a cap, too, leaves the mixture as it is
            assert labels[part].mean() == pytest.approx(whole, abs=0.1)


@pytest.mark.parametrize("alpha", [1e-5, 1e-3])
def test_a_tiny_alpha_gives_each_cluster_to_one_client(alpha):
    labels = np.repeat(np.arange(30), 20)
    table = np.array(
        [np.bincount(labels[mine], minlength=30) for mine in dirichlet_shares(labels, 4, alpha=alpha, seed=0)]
    )
    assert (table.max(0) == 20).all()
    assert (table.sum(1) > 0).sum() > 1


def test_even_a_small_client_holds_a_pair_out(tmp_path):
    images, texts, _ = groups_of(2, per=20)
    folder = embedding_folder(tmp_path / "EMB", images, texts)
    built = build_scenario(folder, BuildOptions(clients=2, rounds=2))
    assert [len(client.held_out) for client in built.clients] == [1, 1]


def test_a_device_that_is_not_there_is_told(mixture):
    with pytest.raises(UserError, match=r"--device = 'nonsense': not usable here"):
        build_scenario(mixture[0], BuildOptions(), device="nonsense")


def test_products_on_a_device_give_the_same_clients(mixture):
    by_numpy, by_torch = (build_scenario(mixture[0], BuildOptions(), device=device) for device in ("cpu", "cpu:0"))
    assert by_numpy.clients == by_torch.clients


def test_the_seed_and_the_number_of_threads(mixture):
    folder, _ = mixture
    one, same = (build_scenario(folder, BuildOptions(similarity="cross"), threads=n) for n in (1, 3))
    assert one.hash == same.hash
    assert all(np.array_equal(one.centroids[part], same.centroids[part]) for part in ("image", "text"))
    assert one.hash != build_scenario(folder, BuildOptions(similarity="cross", seed=1)).hash


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cap": 8}, r"--cap 8: below one batch of 16"),
        ({"clients": 0}, r"--clients 0: must be at least 1"),
        ({"rounds": 0}, r"--rounds 0"),
        ({"held_out": 1.0}, r"--held-out 1"),
        ({"division": "dirichlet", "alpha": 0.0}, r"--alpha 0: must be above 0"),
        ({"division": "sizes"}, r"--sizes: goes with --division sizes"),
        ({"sizes": (1, 2)}, r"--sizes: goes with"),
        ({"division": "sizes", "sizes": (1, 2)}, r"--sizes: 2 numbers for --clients 5"),
        ({"division": "sizes", "clients": 1, "sizes": (0,)}, r"each must be at least 1"),
        ({"similarity": "colour"}, r"--similarity colour: choose image, text, joint, cross"),
        ({"division": "colour"}, r"--division colour: choose"),
        ({"division": "dirichlet", "groups": 0}, r"--groups 0"),
        ({"groups": 9}, r"--groups 9: goes with --division dirichlet"),
        ({"division": "dirichlet", "alpha": float("inf")}, r"--alpha inf"),
    ],
)
def test_options_out_of_range_name_their_flag(options, message):
    with pytest.raises(UserError, match=message):
        BuildOptions(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clients": 999}, r"--clients 999: the embeddings hold only \d+ pairs"),
        ({"rounds": 300}, r"client-0: holds \d+ pairs to train on, fewer than --rounds 300"),
        ({"division": "dirichlet", "groups": 5000}, r"--groups 5000: the embeddings hold only"),
        ({"division": "sizes", "clients": 1, "sizes": (5000,)}, r"--sizes: 5,000 pairs in all"),
    ],
)
def test_too_few_pairs_for_what_is_asked(mixture, options, message):
    with pytest.raises(UserError, match=message):
        build_scenario(mixture[0], BuildOptions(**options))


def test_an_id_that_occurs_twice_is_named(tmp_path):
    images, texts, _ = groups_of(2, per=10)
    names = [f"pair-{i}" for i in range(len(images) - 1)] + ["pair-3"]
    folder = embedding_folder(tmp_path / "EMB", images, texts, names=names)
    with pytest.raises(UserError, match="the id 'pair-3' occurs twice"):
        build_scenario(folder, BuildOptions(clients=2))


def test_rows_that_are_no_numbers_are_named(tmp_path):
    images, texts, _ = groups_of(2, per=10)
    folder = embedding_folder(tmp_path / "EMB", images, texts)
    path = next((tmp_path / "EMB").glob("shard-*"))
    content = bytearray(path.read_bytes())
    header = 8 + int.from_bytes(content[:8], "little")
    end = header + json.loads(content[8:header])["text"]["data_offsets"][1]
    content[end - 2 * images.shape[1] : end] = b"\x00\x7e" * images.shape[1]  # the last caption's row becomes NaN
    path.write_bytes(bytes(content))
    with pytest.raises(UserError, match=r"1 of \d+ rows are no unit vectors; the one of 'pair-000\d\d' is not finite"):
        build_scenario(folder, BuildOptions(clients=2))
