import dataclasses
import json
import shutil

import numpy as np
import pytest

from fedcmp.errors import UserError
from fedcmp.report.scenario import report_folder, write_scenario_report
from fedcmp.scenarios.built import BuiltScenario
from fedcmp.scenarios.describing.description import PICTURES, describe_built, describe_folders
from tests.scenarios.small_collections import PLANTED, built_by, embed_pairs, write_pairs

COUNT = 90
NUMBER = np.arange(COUNT)
BY_COLOUR, BY_WORD = NUMBER % 3, NUMBER // 3 % 3


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("describing")
    source = write_pairs(folder / "pairs", COUNT)
    embeddings = embed_pairs(folder / "EMB", source, folder / "pairs")
    pruned = np.where(NUMBER < 12, -1, BY_COLOUR)
    built_by(embeddings, pruned, similarity="image").write(folder / "image")
    built_by(embeddings, BY_WORD, similarity="text").write(folder / "text")
    built_by(embeddings, 3 * BY_COLOUR + BY_WORD, similarity="joint").write(folder / "joint")
    built_by(embeddings, NUMBER // 30, division="iid", names=["north", "south", "west"]).write(folder / "iid")
    return folder, embeddings, source


@pytest.fixture(scope="module")
def described(place):
    folder, _, _ = place
    return describe_folders([folder / name for name in ("image", "text", "joint", "iid")], sample=60)


def shown(facts, name):
    return next(one for one in facts["scenarios"] if one["name"] == name)


def test_each_scenario_is_sharpest_in_its_own_metric_where_the_data_are_so(described):
    facts, _ = described
    for name in ("image", "text", "joint"):
        one = shown(facts, name)
        assert max(one["silhouette"], key=lambda metric: one["silhouette"][metric]) == name == one["metric"]
    assert shown(facts, "iid")["metric"] is None
    assert (
        abs(shown(facts, "iid")["similarity"]["image"]["gap"])
        < 0.05
        < shown(facts, "image")["similarity"]["image"]["gap"]
    )


def test_sizes_are_those_of_the_scenario(described):
    facts, _ = described
    first = shown(facts, "image")["clients"][0]
    assert (first["pairs"], first["rounds"], first["held_out"], first["pruned"]) == (25, [13, 12], 1, 12)
    assert shown(facts, "image")["pairs"] == 78
    assert [client["name"] for client in shown(facts, "iid")["clients"]] == ["north", "south", "west"]


def test_all_scenarios_show_one_sample_by_their_own_clients(place, described):
    facts, _ = described
    assert facts["sample"] == 60
    assert {len(layout["x"]) for layout in facts["maps"].values()} == {60}
    colours, words = np.array(shown(facts, "image")["owners"]), np.array(shown(facts, "text")["owners"])
    assert np.array_equal(np.array(shown(facts, "joint")["owners"]), 3 * _unpruned(facts) + words)
    assert (colours == -1).any()
    assert np.array_equal(colours[colours >= 0], _unpruned(facts)[colours >= 0])


def _unpruned(facts):
    return np.array(shown(facts, "joint")["owners"]) // 3


def test_the_nearest_pairs_are_those_of_brute_force(place, described):
    folder, embeddings, _ = place
    facts, thumbnails = described
    for name in ("image", "text", "joint", "iid"):
        built, ids = BuiltScenario.read(folder / name), np.array(embeddings.ids())
        v, t = (embeddings.rows(part, 0, COUNT).astype(np.float64) for part in ("image", "text"))
        for k, client in enumerate(built.clients):
            values = {"image": v @ built.centroids["image"][k], "text": t @ built.centroids["text"][k]}
            fit = values[name] if name in values else (values["image"] + values["text"]) / 2
            mine = np.flatnonzero(np.isin(ids, [*client.held_out, *(one for part in client.rounds for one in part)]))
            nearest = mine[np.argsort(-fit[mine], kind="stable")][:PICTURES]
            found = shown(facts, name)["clients"][k]["nearest"]
            assert [one["id"] for one in found] == ids[nearest].tolist()
            assert [one["similarity"] for one in found] == pytest.approx(fit[nearest].tolist(), abs=1e-3)
            assert all(one["picture"] in thumbnails for one in found)
            assert found[0]["caption"].endswith(f" {nearest[0]}")


def test_planted_words_are_told(described):
    facts, _ = described
    for name in ("text", "joint"):
        for k, client in enumerate(shown(facts, name)["clients"]):
            assert client["words"][0][0] == PLANTED[k % 3]
    assert [client["words"] for client in shown(facts, "image")["clients"]] == [[], [], []]


def test_facts_are_plain_and_the_same_twice(place, described):
    folder, _, _ = place
    facts, thumbnails = described
    assert json.loads(json.dumps(facts)) == facts
    again = describe_folders([folder / name for name in ("image", "text", "joint", "iid")], sample=60)
    assert again == (facts, thumbnails)


def test_the_report_is_the_same_twice(place, tmp_path):
    folder, _, _ = place
    facts, thumbnails = describe_folders([folder / "image", folder / "text"], sample=30)
    for out in ("a", "b"):
        written = write_scenario_report(facts, thumbnails, tmp_path / out)
    assert [path.name for path in written][:3] == ["index.html", "tables.md", "numbers.json"]
    for path in written:
        assert path.read_bytes() == (tmp_path / "a" / path.name).read_bytes()
    assert json.loads((tmp_path / "a" / "numbers.json").read_text()) == facts


def test_without_the_source_there_are_no_pictures_and_it_is_said(place):
    folder, embeddings, _ = place
    built = BuiltScenario.read(folder / "text")
    facts, thumbnails = describe_built([("text", built)], embeddings, None, seed=0, sample=20, missing="gone: x")
    assert (facts["missing"], facts["captions"], thumbnails) == ("gone: x", 0, {})
    assert all(client["nearest"] == client["words"] == [] for client in facts["scenarios"][0]["clients"])


def test_the_share_of_one_client_can_be_shown(place):
    folder, embeddings, source = place
    share = BuiltScenario.read(folder / "image").share(1)
    facts, _ = describe_built([("share", share)], embeddings, source, seed=0, sample=20)
    assert facts["scenarios"][0]["owners"] == [0] * 20
    assert facts["scenarios"][0]["silhouette"]["image"] is None
    assert len(facts["scenarios"][0]["clients"][0]["nearest"]) == PICTURES


def test_a_picture_that_cannot_be_read_gives_way_to_the_next(tmp_path):
    source = write_pairs(tmp_path / "other", COUNT)
    embeddings = embed_pairs(tmp_path / "EMB", source, tmp_path / "other")
    built = built_by(embeddings, BY_COLOUR)
    whole, _ = describe_built([("image", built)], embeddings, source, seed=0, sample=20)
    first = [one["id"] for one in whole["scenarios"][0]["clients"][0]["nearest"]]
    (tmp_path / "other" / "images" / f"{int(first[0][1:])}.png").unlink()
    facts, _ = describe_built([("image", built)], embeddings, source, seed=0, sample=20)
    found = [one["id"] for one in facts["scenarios"][0]["clients"][0]["nearest"]]
    assert found[:-1] == first[1:]
    assert len(found) == PICTURES


def test_scenarios_of_other_embeddings_are_refused(place):
    folder, embeddings, source = place
    built = BuiltScenario.read(folder / "text")
    other = dataclasses.replace(built, embeddings={"fingerprint": "another"})
    with pytest.raises(UserError, match=r"two: was cut from other embeddings than .*: name its own with --embeddings"):
        describe_built([("one", built), ("two", other)], embeddings, source, seed=0, sample=20)


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        (("p000", "stranger"), "client-1 holds 'stranger', which"),
        (("p007", "p007"), "holds a pair that is held already"),
    ],
)
def test_ids_that_do_not_fit_are_named(place, ids, said):
    folder, embeddings, source = place
    built = BuiltScenario.read(folder / "text")
    first = dataclasses.replace(built.clients[0], rounds=(("p001",),), held_out=())
    second = dataclasses.replace(built.clients[1], rounds=(ids,), held_out=())
    wrong = dataclasses.replace(built, clients=(first, second))
    with pytest.raises(UserError, match=said):
        describe_built([("text", wrong)], embeddings, source, seed=0, sample=20)


def test_a_pair_of_two_clients_is_refused(place):
    folder, embeddings, source = place
    built = BuiltScenario.read(folder / "text")
    shared = dataclasses.replace(built.clients[1], rounds=built.clients[0].rounds)
    wrong = dataclasses.replace(built, clients=(built.clients[0], shared))
    with pytest.raises(UserError, match="client-1 holds a pair that is held already: build the scenario again"):
        describe_built([("text", wrong)], embeddings, source, seed=0, sample=20)


def test_embeddings_that_have_moved_are_named_by_an_option(place, tmp_path):
    folder, embeddings, _ = place
    built = BuiltScenario.read(folder / "text")
    dataclasses.replace(built, inputs={"embeddings": str(tmp_path / "gone")}).write(tmp_path / "moved")
    dataclasses.replace(built, inputs={}).write(tmp_path / "silent")
    with pytest.raises(UserError, match=r"gone: the embeddings of .*moved are not there: name their folder with --emb"):
        describe_folders([tmp_path / "moved"])
    with pytest.raises(UserError, match="silent: does not say where its embeddings are: name their folder with --emb"):
        describe_folders([tmp_path / "silent"])
    with pytest.raises(UserError, match="no scenario is named"):
        describe_folders([])
    facts, _ = describe_folders([tmp_path / "moved", tmp_path / "silent"], embeddings=embeddings.folder, sample=10)
    assert [one["name"] for one in facts["scenarios"]] == ["moved", "silent"]
    assert facts["missing"] == ""


def test_scenarios_of_one_name_are_told_apart_by_their_paths(place, tmp_path):
    folder, _, _ = place
    shutil.copytree(folder / "text", tmp_path / "text")
    facts, _ = describe_folders([folder / "text", tmp_path / "text"], sample=10)
    assert [one["name"] for one in facts["scenarios"]] == [str(folder / "text"), str(tmp_path / "text")]
    assert report_folder([folder / "text", tmp_path / "text"]) == folder / "report"
    assert report_folder([folder / "text"]) == folder / "text" / "report"
