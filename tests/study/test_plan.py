"""What a run is known by, and what a method is tried with."""

import dataclasses
from pathlib import Path

import pytest

from fedcmp.config import read_toml
from fedcmp.errors import UserError
from fedcmp.study.plan import _content, check_settings, grid, inherited, planned_run
from fedcmp.study.recipe import StudyRecipe, load_study

ROOT = Path(__file__).parents[2]
HASHES = ["84aafb568bbcf82d", "d7ef5a520ffdf800"]  # as version 0.1 had them


@pytest.fixture
def study(content, write):
    return load_study(write(content))


def settings(study, method="fedavg", index=0):
    return grid(study.method[method])[index]


def test_the_likeliest_settings_are_tried_first(study):
    tried = [(each["learning_rate"], each["options"]["momentum"]) for each in grid(study.method["shared-basis"])]
    assert tried == [(0.005, 0.5), (0.005, 0.0), (0.01, 0.5), (0.01, 0.0)]
    assert [each["learning_rate"] for each in grid(study.method["fedavg"])] == [0.01, 0.003]


def test_an_arm_takes_the_tuned_settings_with_its_own_on_top(study):
    tuned = settings(study, "shared-basis", 1)
    arm = inherited(study, "arm-no-momentum", tuned)
    assert arm["learning_rate"] == 0.005
    assert arm["aggregator"] == "shared-basis"
    assert (arm["objective"], arm["step"]) == ("plain", "canonical")
    assert arm["options"] == {"momentum": 0.0, "server_rate": 1.0}


def test_an_arm_with_another_rule_leaves_the_options_behind(content):
    content["method"]["arm-no-momentum"] |= {"aggregator": "fedavg", "step": "adamw", "options": {}}
    study = StudyRecipe.model_validate(content)
    assert inherited(study, "arm-no-momentum", settings(study, "shared-basis"))["options"] == {}


def test_the_hash_is_of_what_determines_the_result(study):
    run = planned_run(study, "image", "fedavg", 1, settings(study))
    same = planned_run(study.model_copy(update={"study": study.study.model_copy(update={"workers": 7})}), "image",
                       "fedavg", 1, settings(study))  # fmt: skip
    assert run.hash == same.hash
    others = [
        planned_run(study, "image", "fedavg", 2, settings(study)),
        planned_run(study, "iid", "fedavg", 1, settings(study)),
        planned_run(study, "image", "fedavg", 1, settings(study, index=1)),
        planned_run(study, "image", "shared-basis", 1, settings(study, "shared-basis")),
        planned_run(study, "image", "fedavg", 1, settings(study), captions=200),
    ]
    assert len({run.hash, *(other.hash for other in others)}) == 6


def test_runs_of_one_seed_share_their_pairs(study):
    first = planned_run(study, "image", "fedavg", 1, settings(study))
    second = planned_run(study, "image", "shared-basis", 1, settings(study, "shared-basis"))
    other = planned_run(study, "image", "fedavg", 2, settings(study))
    assert first.pairs_hash == second.pairs_hash != other.pairs_hash


def test_a_diverging_client_is_another_run_on_the_same_pairs(study, content, write):
    content["scenario"]["image"]["recipe"]["scenario"]["rate_factors"] = {"1": 30.0}
    usual = planned_run(study, "image", "fedavg", 1, settings(study))
    diverging = planned_run(load_study(write(content)), "image", "fedavg", 1, settings(study))
    assert usual.hash != diverging.hash
    assert usual.pairs_hash == diverging.pairs_hash


@pytest.mark.parametrize(
    ("section", "key", "usual", "other"),
    [
        ("model", "frozen_precision", "same", "float8"),
        ("model", "logit_rows", None, 64),
        ("training", "micro_batch", None, 4),
    ],
)
def test_a_key_that_came_later_counts_only_where_it_is_set(study, content, write, section, key, usual, other):
    run = planned_run(study, "image", "fedavg", 1, settings(study))
    assert getattr(getattr(run.recipe, section), key) == usual
    assert key not in _content(run.recipe)[section]
    content["scenario"]["image"]["recipe"][section] = {key: other}
    changed = planned_run(load_study(write(content)), "image", "fedavg", 1, settings(study))
    assert _content(changed.recipe)[section][key] == other
    assert changed.hash != run.hash


def test_another_world_is_another_run_on_other_pairs(study, content, write):
    """The embedded world's runs keep their hashes: they are those of recipes that never had the key."""
    usual = planned_run(study, "image", "fedavg", 1, settings(study))
    assert "world" not in _content(usual.recipe)["data"]
    content["base"]["data"]["world"] = "embedded"
    assert planned_run(load_study(write(content)), "image", "fedavg", 1, settings(study)).hash == usual.hash
    content["base"]["data"]["world"], content["study"]["suites"] = "untouched", []
    content["scenario"]["iid"]["methods"] = ["fedavg"]
    other = planned_run(load_study(write(content)), "image", "fedavg", 1, settings(study))
    assert _content(other.recipe)["data"]["world"] == "untouched"
    assert other.hash != usual.hash
    assert other.pairs_hash != usual.pairs_hash


def test_later_keys_count_where_they_are_set_only(study, content, write, tmp_path):
    """Run files of before a key was there keep their names."""
    usual = planned_run(study, "image", "fedavg", 1, settings(study))
    known = _content(usual.recipe)
    assert not {"prompt", "instruction", "projector_from"} & known["model"].keys()
    assert not {"rate_factors", "manifest"} & known["scenario"].keys()
    hashes = {usual.hash}
    for key, value in {"prompt": "chat", "projector_from": tmp_path, "vision_layer": [-2]}.items():
        model = usual.recipe.model.model_copy(update={key: value})
        run = dataclasses.replace(usual, recipe=usual.recipe.model_copy(update={"model": model}))
        hashes |= {run.hash, run.pairs_hash}
    assert len(hashes) == 7


def test_a_published_run_of_canonical_steps_keeps_its_hash():
    """They were an objective then: run files of before stay those of the same runs."""
    study = load_study(Path(__file__).parents[2] / "recipes" / "study.toml")
    tuned = grid(study.method["shared-basis"])[0]
    runs = [planned_run(study, "image", "shared-basis", 1, tuned)]
    runs += [planned_run(study, "image", arm, 1, inherited(study, arm, tuned)) for arm in ("arm-steps-alone",)]
    assert [run.hash[:16] for run in runs] == HASHES
    other = planned_run(study, "image", "shared-basis", 1, tuned | {"step": "muon", "step_options": {}})
    assert other.hash not in {run.hash for run in runs}


def test_tuning_uses_validation_scenes_and_no_suites(study):
    trial = planned_run(study, "image", "fedavg", 9, settings(study), captions=100)
    assert trial.recipe.evaluation.split == "validation"
    assert trial.recipe.data.num_pairs == 100
    assert trial.suites == ()
    reported = planned_run(study, "image", "fedavg", 1, settings(study))
    assert (reported.recipe.evaluation.split, reported.recipe.evaluation.every) == ("test", 1)
    assert reported.suites == ("mme-world",)
    arm = inherited(study, "arm-no-momentum", settings(study, "shared-basis"))
    assert planned_run(study, "image", "arm-no-momentum", 1, arm).recipe.evaluation.every == 2
    assert planned_run(study, "image", "fedavg", 2, settings(study)).recipe.evaluation.every == 2
    assert planned_run(study, "iid", "fedavg", 1, settings(study)).recipe.evaluation.every == 2


def test_a_narrower_payload_is_another_run_on_the_same_pairs(study, content, write):
    """Run files of before stay those of the same runs: the hash is that of a recipe that never had the key."""
    usual = planned_run(study, "image", "fedavg", 1, settings(study))
    content["scenario"]["image"]["recipe"]["federation"] = {"payload": "float32", "error_feedback": True}
    assert planned_run(load_study(write(content)), "image", "fedavg", 1, settings(study)).hash == usual.hash
    content["scenario"]["image"]["recipe"]["federation"] = {"payload": "int8"}
    small = planned_run(load_study(write(content)), "image", "fedavg", 1, settings(study))
    assert small.hash != usual.hash
    assert small.pairs_hash == usual.pairs_hash
    assert not {"payload", "error_feedback", "broadcast_payload"} & set(_content(usual.recipe)["federation"])


@pytest.mark.parametrize(
    ("place", "changed", "message"),
    [
        ("fedavgm", {"options": {"momentm": 0.9}}, r"method\.fedavgm\.options: 'fedavgm' has no option 'momentm'"),
        (
            "fedavgm",
            {"knob": {"name": "options.momentum", "values": [0.9, 7]}},
            r"method\.fedavgm\.options: momentum = 7",
        ),
        ("arm-csc", {"options": {"reliability": "some"}}, r"method\.arm-csc\.options: reliability = 'some'"),
        ("shared-basis", {"step_options": {"basis": "mine"}}, r"method\.shared-basis\.step_options: basis = 'mine'"),
    ],
)
def test_an_option_that_a_method_does_not_take_is_named_before_anything_is_run(place, changed, message):
    content = read_toml(ROOT / "recipes" / "study.toml")
    content["method"][place] = {**content["method"][place], **changed}
    with pytest.raises(UserError, match=message):
        check_settings(StudyRecipe.model_validate(content))


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.toml")), ids=lambda path: path.stem)
def test_every_study_that_ships_has_options_that_its_methods_take(path):
    content = read_toml(path)
    if "study" in content:
        check_settings(StudyRecipe.model_validate(content))
