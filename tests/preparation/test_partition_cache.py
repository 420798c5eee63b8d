"""Embeddings and divisions by meaning are worked out once and kept in the cache."""

import itertools

import numpy as np
import pytest
from PIL import Image

from fedcmp.config import parse_recipe
from fedcmp.model.dual_encoder import DualEncoder
from fedcmp.preparation import partition
from fedcmp.preparation.loading import load_encoder
from fedcmp.preparation.partition import Usable, clusters, embeddings, partition_pairs
from fedcmp.preparation.sources import Collection, frozen_features, training_collections
from fedcmp.scenarios.clustering.clusters import cross_clusters
from fedcmp.scenarios.partition import by_meaning
from fedcmp.world.scene import EMBEDDED, TRAINING_SEED, make_scenes
from fedcmp.world.words import STYLES

PAIRS = 150


def silent(_what, _done, _total):
    return None


class Opened:
    """What `partition_pairs` needs of a recipe with its own embeddings' folder."""

    def __init__(self, cache, scenes):
        self.cache = cache
        self.encoder = load_encoder(self.recipe())
        base = self.recipe(cache=scenes)
        self.collections = training_collections(base, silent)
        self.features = [frozen_features(base, c, self.encoder, silent) for c in self.collections]
        self.read = Usable(self.collections, self.features)

    def recipe(self, kind="image", clients=4, seed=0, cache=None):
        content = {
            "run": {"cache": str(cache or self.cache), "seed": seed},
            "data": {"num_pairs": PAIRS},
            "scenario": {"kind": kind, "clients": clients},
        }
        return parse_recipe(content, "test")

    def partition(self, **scenario):
        return partition_pairs(self.recipe(**scenario), self.collections, self.read, self.encoder, silent)

    def files(self):
        return sorted(path.name for path in (self.cache / "embeddings").glob("*.safetensors"))


@pytest.fixture
def opened(tmp_path, world_cache):
    return Opened(tmp_path, world_cache)


@pytest.fixture
def no_work(monkeypatch):
    """Call it, and whatever would embed or cluster fails the test."""

    def forbid():
        def fail(*_arguments, **_named):
            raise AssertionError("worked out again")

        for name in ("by_meaning", "cross_clusters", "_embedded"):
            monkeypatch.setattr(partition, name, fail)

    return forbid


def test_the_kept_embeddings_are_the_encoders(opened):
    got = embeddings(opened.recipe(), opened.collections, opened.read, opened.encoder, silent)
    scenes = make_scenes(TRAINING_SEED, 0, PAIRS)
    dual = DualEncoder("world", opened.encoder, device="cpu")
    some = slice(140, 150)  # of the second batch
    np.testing.assert_allclose(
        got["image"][some], dual.images([Image.fromarray(p) for p in scenes.images[some]]).numpy(), atol=1e-5
    )
    np.testing.assert_allclose(got["text"][some], dual.texts(scenes.captions[some]).numpy(), atol=1e-5)


@pytest.mark.parametrize("kind", ["image", "text", "joint", "cross"])
def test_a_division_is_that_of_the_scenario_and_comes_back_from_the_cache(opened, no_work, kind):
    first = opened.partition(kind=kind, seed=3)
    got = embeddings(opened.recipe(), opened.collections, opened.read, opened.encoder, silent)
    parts = {"image": ["image"], "text": ["text"]}.get(kind, ["image", "text"])
    if kind == "cross":
        labels = cross_clusters(got["image"], got["text"], 4, seed=3).labels
        expected = [np.flatnonzero(labels == client) for client in range(4)]
    else:
        expected = by_meaning([got[part] for part in parts], 4, seed=3)
    no_work()
    for mine, again, right in zip(first, opened.partition(kind=kind, seed=3), expected, strict=True):
        assert mine.tolist() == again.tolist() == right.tolist()
    assert sorted(np.concatenate(first).tolist()) == list(range(PAIRS))


def test_the_objective_of_cross_is_kept_with_the_partition(opened, no_work):
    arguments = opened.recipe(kind="cross"), opened.collections[0], opened.read, opened.encoder, silent
    first = clusters(*arguments)
    assert len(first.trace) > 1
    no_work()
    again = clusters(*arguments)
    assert again.trace.tolist() == first.trace.tolist()
    assert again.labels.tolist() == first.labels.tolist()


def test_every_kind_number_of_clients_and_seed_has_its_own_partition(opened):
    for kind, clients, seed in itertools.product(("image", "cross"), (2, 3), (0, 1)):
        holdings = opened.partition(kind=kind, clients=clients, seed=seed)
        assert len(holdings) == clients
    assert len(opened.files()) == 1 + 8
    assert len({name[:50] for name in opened.files()}) == 1  # beside the embeddings, under the same name


def test_other_usable_pairs_have_other_embeddings(opened):
    """As many pairs, but not the same ones: a bad picture more here, one less there."""
    kept = []
    for left_out in (3, 4):
        read = Usable(opened.collections, opened.features)
        for values in (read.rows, read.captions, read.groups, read.keys, read.owner):
            del values[left_out]
        kept.append(embeddings(opened.recipe(), opened.collections, read, opened.encoder, silent)["image"])
    assert kept[0].shape == kept[1].shape
    assert not np.array_equal(kept[0], kept[1])
    assert len(opened.files()) == 2


def test_a_damaged_file_is_written_anew(opened):
    first = opened.partition(kind="text")
    for name in opened.files():
        path = opened.cache / "embeddings" / name
        path.write_bytes(path.read_bytes()[:100])
    again = opened.partition(kind="text")
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


def test_several_collections_are_embedded_end_to_end(opened):
    """Each client's own pairs, rows counted on from collection to collection."""
    collection = opened.collections[0]
    both = [Collection("a", collection.source), Collection("b", collection.source)]
    read = Usable(both, opened.features * 2)
    got = embeddings(opened.recipe(), both, read, opened.encoder, silent)
    one = embeddings(opened.recipe(), [collection], opened.read, opened.encoder, silent)
    for name in ("image", "text"):
        assert np.array_equal(got[name], np.concatenate([one[name]] * 2))


def test_every_caption_names_its_style():
    scenes = make_scenes(TRAINING_SEED, 0, 3000, images=False)
    assert [EMBEDDED.style_of(caption) for caption in scenes.captions] == [STYLES[style] for style in scenes.styles]
