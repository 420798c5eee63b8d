"""A recipe's scenario, described before any training."""

import json

import numpy as np
import pytest

from fedcmp.config import parse_recipe
from fedcmp.preparation import scenario_facts
from fedcmp.preparation.prepare import prepare
from fedcmp.preparation.scenario_facts import describe_scenario


def recipe(cache, **scenario):
    content = {
        "run": {"cache": str(cache), "seed": 1},
        "data": {"num_pairs": 200},
        "scenario": {"clients": 3} | scenario,
        "evaluation": {"captions": 24, "questions_per_kind": 2, "samples": 1},
    }
    return parse_recipe(content, "test")


@pytest.mark.parametrize("kind", ["image", "cross"])
def test_the_facts_are_those_of_the_runs_own_manifest(world_cache, tmp_path, kind):
    chosen = recipe(world_cache, kind=kind, wrong_captions={"1": 0.5})
    facts = describe_scenario(chosen)
    manifest = prepare(chosen, tmp_path / "prepared", lambda *_: None).manifest
    assert facts["sizes"] == [len(mine) for mine in manifest.holdings]
    assert facts["wrong_captions"] == [sum(p in manifest.swapped for p in mine) for mine in manifest.holdings]
    assert facts["wrong_captions"][1] == pytest.approx(facts["sizes"][1] / 2, abs=1)
    owner = {pair: client for client, mine in enumerate(manifest.holdings) for pair in mine.tolist()}
    assert sorted(np.bincount(facts["map"]["client"], minlength=3)) == sorted(np.bincount(list(owner.values())))
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    if kind == "cross":
        assert max(facts["objective"]) > facts["objective"][0]
    else:
        assert "objective" not in facts
    assert facts["map"]["metric"] == kind


@pytest.fixture
def no_map(monkeypatch):
    """It takes most of the time."""
    monkeypatch.setattr(scenario_facts, "map_of_sample", lambda *_arguments, **_named: None)


@pytest.mark.usefixtures("no_map")
def test_clusters_are_more_heterogeneous_than_random_shares(world_cache):
    image, text, iid = (describe_scenario(recipe(world_cache, kind=kind)) for kind in ("image", "text", "iid"))
    for metric in ("image", "text"):
        measures = [facts["heterogeneity"]["similarity"][metric]["gap"] for facts in (image, text, iid)]
        assert max(measures) == measures[("image", "text").index(metric)]
        assert abs(measures[2]) < 0.02
    pure = describe_scenario(recipe(world_cache, kind="style"))["heterogeneity"]["total_variation"]
    assert pure["style"] == 1
    assert pure["family"] < 0.4


@pytest.mark.usefixtures("no_map")
def test_wrong_captions_show_in_the_alignment(world_cache):
    right, wrong = (
        describe_scenario(recipe(world_cache, kind="iid", **more))["heterogeneity"]["alignment"]
        for more in ({}, {"wrong_captions": {"1": 1.0}})
    )
    assert wrong[0] == right[0]
    assert wrong[1] < right[1] / 2


def test_own_clients_with_their_own_files(world_cache, tmp_path):
    """Held-out pairs belong to nobody's training, hence to no measure."""
    from fedcmp.world.export import export_world

    clients = []
    for number, name in enumerate(("a", "b")):
        export_world(tmp_path / name, split="train", count=40 + 20 * number)
        clients.append(
            {"name": name, "pairs": str(tmp_path / name / "pairs.json"), "images": f"{tmp_path / name}/images"}
        )
    content = {
        "run": {"cache": str(world_cache)},
        "data": {"format": "llava", "clients": clients, "held_out": 0.1},
        "scenario": {"kind": "given"},
    }
    told = []
    facts = describe_scenario(parse_recipe(content, "test"), lambda what, done, total: told.append(what))
    assert facts["sizes"] == [36, 54]
    assert list(facts["heterogeneity"]["total_variation"]) == ["group"]
    assert facts["map"]["metric"] == "joint"
    assert any("embedding" in what for what in told)
