"""Training on a built scenario: exactly its ids in its rounds, and what happens when some are not there."""

import json

import numpy as np
import pytest

from fedcmp.config import parse_recipe
from fedcmp.data.pairs import open_pairs
from fedcmp.errors import UserError
from fedcmp.preparation.batches import Batches
from fedcmp.preparation.loading import load_prepared
from fedcmp.preparation.prepare import prepare
from fedcmp.scenarios.building import BuildOptions, build_scenario
from fedcmp.scenarios.built import BuiltScenario, split
from fedcmp.world.export import export_world
from tests.scenarios.folders import embedding_folder
from tests.scenarios.mixtures import groups_of
from tests.simulation.runner import fedcmp, metrics


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    """162 pairs as LLaVA files, and a scenario of 3 clients and 2 rounds that was built from them."""
    folder = tmp_path_factory.mktemp("collection")
    export_world(folder / "scenes", split="train", count=162)
    source = open_pairs("llava", folder / "scenes" / "pairs.json", folder / "scenes" / "images")
    names = [source.pair(i).key for i in range(len(source))]
    images, texts, _ = groups_of(3, per=51, seed=2)
    assert len(images) == len(names)
    described = {"name": source.name, "fingerprint": source.fingerprint()}
    embedded = embedding_folder(folder / "EMB", images, texts, names=names, source=described)
    options = BuildOptions(clients=3, rounds=2, cap=50, held_out=0.1, seed=5)
    build_scenario(embedded, options).write(folder / "scenario")
    return folder


def content(folder, cache, **scenario):
    return {
        "run": {"cache": str(cache), "workers": 1, "methods": ["fedavg"]},
        "data": {
            "format": "llava",
            "pairs": str(folder / "scenes" / "pairs.json"),
            "images": str(folder / "scenes" / "images"),
        },
        "scenario": {"kind": "manifest", "manifest": str(folder / "scenario")} | scenario,
        "federation": {"rounds": 2},
        "training": {"batch_size": 8},
        "evaluation": {"captions": 8, "samples": 1},
    }


def prepared(folder, cache, where, change=None, **scenario):
    given = content(folder, cache, **scenario)
    if change is not None:
        change(given)
    recipe = parse_recipe(given, "test")
    return recipe, prepare(recipe, where / "prepared", lambda _what, _done, _total: None)


def without(folder, tmp_path, count):
    """The same pairs, but the first `count` that client-0 trains on in round 1 are gone."""
    lost = set(BuiltScenario.read(folder / "scenario").clients[0].rounds[0][:count])
    records = json.loads((folder / "scenes" / "pairs.json").read_text())
    path = tmp_path / "fewer.json"
    path.write_text(json.dumps([record for record in records if record["id"] not in lost]))

    def change(given):
        given["data"]["pairs"] = str(path)

    return lost, change


def test_exactly_its_ids_are_trained_on_in_its_rounds(collection, world_cache, tmp_path):
    recipe, _ = prepared(collection, world_cache, tmp_path)
    data = load_prepared(recipe, tmp_path / "prepared")
    batches_of = Batches(recipe, data)
    source = open_pairs("llava", collection / "scenes" / "pairs.json", collection / "scenes" / "images")
    keys = [source.pair(row).key for row in data.train.rows.tolist()]
    built = BuiltScenario.read(collection / "scenario")
    for number, client in enumerate(built.clients):
        for round_number, ids in enumerate(client.rounds):
            batches = batches_of(number)[round_number]
            assert sorted(keys[i] for i in np.concatenate(batches).tolist()) == sorted(ids)
    judged = {key for key, _ in json.loads((tmp_path / "prepared" / "setup.json").read_text())["evaluation"]["names"]}
    assert judged == {name for client in built.clients for name in client.held_out}
    assert [line["missing_pairs"] for line in data.data_lines] == [0, 0, 0]


def test_the_centralized_learner_meets_the_same_ids_in_the_same_rounds(collection, world_cache, tmp_path):
    recipe, _ = prepared(collection, world_cache, tmp_path)
    data = load_prepared(recipe, tmp_path / "prepared")
    batches_of = Batches(recipe, data)
    for part in range(2):
        clients = np.concatenate([np.concatenate(batches_of(k)[part]) for k in range(3)])
        assert sorted(np.concatenate(batches_of(-1)[part]).tolist()) == sorted(clients.tolist())


def test_missing_ids_are_left_out_and_told(collection, world_cache, tmp_path, caplog):
    lost, change = without(collection, tmp_path, 5)
    _, data = prepared(collection, world_cache, tmp_path, change)
    assert [line["missing_pairs"] for line in data.data_lines] == [5, 0, 0]
    assert "5 of" in caplog.text
    assert "client-0 5 of" in caplog.text
    built = BuiltScenario.read(collection / "scenario")
    assert len(data.manifest.holdings[0]) == built.clients[0].size - len(lost)


def test_pairs_that_the_scenario_leaves_out_are_accounted_for(collection, world_cache, tmp_path):
    _, data = prepared(collection, world_cache, tmp_path)
    built = BuiltScenario.read(collection / "scenario")
    (line,) = data.pairs_lines
    assert line["train"] == sum(client.size for client in built.clients)
    assert line["held_out"] == sum(len(client.held_out) for client in built.clients)
    assert line["unused"] == {"not in the scenario": 162 - 150}
    assert line["read"] == line["train"] + line["held_out"] + 12


def test_a_source_of_another_size_is_looked_up_by_ids_and_told(collection, world_cache, tmp_path, caplog):
    _, change = without(collection, tmp_path, 1)
    prepared(collection, world_cache, tmp_path, change)
    assert "holds 161 pairs, the scenario was built from 162" in caplog.text


def test_a_wrong_scenario_is_told_before_features_are_computed(collection, world_cache, tmp_path):
    recipe = parse_recipe(content(collection, world_cache, manifest=str(tmp_path / "nowhere")), "test")
    told = []
    with pytest.raises(UserError, match=r"nowhere/manifest\.json: not there"):
        prepare(recipe, tmp_path / "prepared", lambda what, _done, _total: told.append(what))
    assert told == []


def test_too_many_missing_ids_are_another_collection(collection, world_cache, tmp_path):
    _, change = without(collection, tmp_path, 5)
    with pytest.raises(UserError, match=r"5 of \d+ ids are not among the pairs of fewer\.json, more than"):
        prepared(collection, world_cache, tmp_path, change, max_missing_fraction=0.01)


def test_a_round_without_any_pair_is_refused(collection, world_cache, tmp_path):
    _, change = without(collection, tmp_path, 100)
    with pytest.raises(UserError, match="all pairs of client-0, round 1, are missing"):
        prepared(collection, world_cache, tmp_path, change)


def test_a_source_that_changed_is_refused(collection, world_cache, tmp_path):
    records = json.loads((collection / "scenes" / "pairs.json").read_text())
    records[3]["conversations"][1]["value"] = "another caption"
    (tmp_path / "changed.json").write_text(json.dumps(records))

    def change(given):
        given["data"]["pairs"] = str(tmp_path / "changed.json")

    with pytest.raises(UserError, match=r"changed\.json: changed since .*scenario was built"):
        prepared(collection, world_cache, tmp_path, change)


def test_other_rounds_than_the_scenarios_are_refused(collection, world_cache, tmp_path):
    def change(given):
        given["federation"]["rounds"] = 3

    with pytest.raises(UserError, match=r"was cut into 2 rounds, but federation\.rounds = 3"):
        prepared(collection, world_cache, tmp_path, change)


def test_a_clients_share_is_enough_for_that_client(collection, world_cache, tmp_path):
    shares = split(BuiltScenario.read(collection / "scenario"), tmp_path / "shares")
    _, data = prepared(collection, world_cache, tmp_path, manifest=str(shares[2]))
    assert data.manifest.names == ["client-2"]
    assert len(data.manifest.holdings[0]) == BuiltScenario.read(collection / "scenario").clients[2].size


def test_the_command_trains_on_a_built_scenario(collection, world_cache, tmp_path):
    lines = ['[run]\nname = "built"\nmethods = ["fedavg"]\nworkers = 1\n[data]\nformat = "llava"']
    lines += [f'pairs = "{collection}/scenes/pairs.json"\nimages = "{collection}/scenes/images"\n[scenario]']
    lines += ['kind = "manifest"\nmanifest = "scenario"\n[federation]\nrounds = 2\n[evaluation]\nsamples = 1']
    (tmp_path / "scenario").symlink_to(collection / "scenario")  # a recipe's paths start from its own folder
    (tmp_path / "built.toml").write_text("\n".join(lines))
    fedcmp(tmp_path, world_cache, "train", "built.toml")
    trained = [line for line in metrics(tmp_path / "runs" / "built") if line["kind"] == "client"]
    built = BuiltScenario.read(collection / "scenario")
    seen = {(line["client"], line["round"]): line["num_examples"] for line in trained}
    assert seen == {(k, r + 1): len(ids) for k, c in enumerate(built.clients) for r, ids in enumerate(c.rounds)}
