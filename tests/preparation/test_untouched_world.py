"""A recipe of the untouched world: its scenarios, a whole small run, and the figures of its families."""

import numpy as np
import pytest

from fedcmp.config import parse_recipe
from fedcmp.preparation.partition import styles_of
from fedcmp.preparation.prepare import prepare
from fedcmp.preparation.scenario_facts import describe_scenario
from fedcmp.preparation.sources import evaluation_collection, training_collections
from fedcmp.world.scene import make_scenes
from fedcmp.world.untouched import UNTOUCHED


def silent(*_anything):
    return None


def recipe(cache, world="untouched", **scenario):
    content = {
        "run": {"cache": str(cache), "seed": 1, "methods": ["fedavg"]},
        "data": {"num_pairs": 240, "world": world},
        "federation": {"rounds": 2},
        "scenario": {"clients": 3} | scenario,
        "evaluation": {"captions": 24, "questions_per_kind": 2, "samples": 1},
    }
    return parse_recipe(content, "test")


@pytest.mark.parametrize("kind", ["image", "cross"])
def test_clusters_divide_it(world_cache, tmp_path, kind):
    prepared = prepare(recipe(world_cache, kind=kind), tmp_path / "prepared", silent)
    holdings = prepared.manifest.holdings
    assert sorted(np.concatenate(holdings).tolist()) == list(range(240))
    assert min(map(len, holdings)) > 5
    assert {group for line in prepared.data_lines for group in line["groups"]} == set(UNTOUCHED.families)
    assert len({tuple(line["groups"].items()) for line in prepared.data_lines}) == 3


def test_pure_shards_are_of_its_own_styles_and_families(world_cache):
    facts = describe_scenario(recipe(world_cache, kind="style", clients=6))
    assert facts["heterogeneity"]["total_variation"]["style"] == 1
    facts = describe_scenario(recipe(world_cache, kind="family", clients=9))
    assert facts["heterogeneity"]["total_variation"]["family"] == 1


def test_both_splits_are_its_own(world_cache):
    (train,), held_out = (
        training_collections(recipe(world_cache), silent),
        evaluation_collection(recipe(world_cache), silent),
    )
    for collection, split in ((train, "train"), (held_out, "test")):
        drawn = make_scenes(UNTOUCHED.streams[split], 0, 40, images=False, world=UNTOUCHED)
        assert [collection.source.pair(i).caption for i in range(40)] == drawn.captions
        assert collection.questions.parent.name.startswith("untouched-")


def test_the_prepared_pairs_of_two_worlds_have_other_fingerprints(world_cache, tmp_path):
    for world in ("embedded", "untouched"):
        prepare(recipe(world_cache, world), tmp_path / world, silent)
    embedded, untouched = ((tmp_path / world / "setup.json").read_text() for world in ("embedded", "untouched"))
    assert embedded != untouched


def test_a_captions_style_is_that_of_the_recipes_world(world_cache):
    captions = [
        "an ice picture of the word cup in red at the left .",
        "the word egg in blue at the right in a map picture .",
    ]
    assert styles_of(recipe(world_cache), captions) == ["ice", "map"]
    assert styles_of(recipe(world_cache, "embedded"), ["a photo of two small red stars ."]) == ["photo"]
