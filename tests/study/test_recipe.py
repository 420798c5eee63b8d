"""A study's recipe: mistakes are told in one line with their place."""

from pathlib import Path

import pytest

from fedcmp.config.methods import COMBINATIONS, PLAIN_STEP, available_methods
from fedcmp.errors import UserError
from fedcmp.report.study.reading import load_study as read_study
from fedcmp.study.files import StudyFiles
from fedcmp.study.recipe import load_study, run_recipe


def changed(content, place, value):
    *path, last = place.split("/")
    table = content
    for key in path:
        table = table[key]
    table[last] = value
    return content


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("tuning/seed", 1, r"scenario\.image\.seeds: 1 is what the methods are tuned on"),
        ("tuning/scenario", "imgae", r"tuning\.scenario: no scenario is named 'imgae'; did you mean image\?"),
        (
            "tuning/rungs",
            [{"trials": 9, "captions": 10}, {"trials": 4, "captions": 20}],
            "13 trials a method; at most 12",
        ),
        ("tuning/rungs", [{"trials": 1, "captions": 10}, {"trials": 2, "captions": 20}], "must not grow"),
        ("scenario/image/seeds", [1, 1], "a seed is named twice"),
        ("scenario/image/ablation_seeds", [3], "must be among its seeds"),
        ("scenario/image/trajectory_seeds", [3], "must be among its seeds"),
        ("scenario/image/methods", ["fedavgg"], "no method is named 'fedavgg'; did you mean fedavg"),
        (
            "scenario/iid/methods",
            {"best": 1, "of": "image", "also": ["fedavgg"]},
            r"scenario\.iid\.methods\.also: no method is named 'fedavgg'",
        ),
        ("scenario/iid/methods", {"best": 1, "of": "text"}, r"scenario\.iid\.methods\.of: no scenario is named 'text'"),
        ("scenario/image/recipe", {"scenario": {"kind": "picture"}}, "base with scenario.image.recipe: scenario.kind"),
        ("scenario/image/recipe", {"run": 3}, r"recipe: run = 3: must be a table"),
        ("scenario/image/recipe", {"run": ["seed"]}, r"recipe: run = \['seed'\]: must be a table"),
        ("study/suites", ["pope-wrld"], "study.suites: no suite is named 'pope-wrld'; did you mean pope-world"),
        ("study/wrokers", 3, "study.wrokers: unknown key; did you mean workers"),
        ("method/fedavg/learning_rates", [], r"method\.fedavg\.learning_rates: give the rates to try"),
        ("method/arm-no-momentum/like", "mine", "must be a method of this study that is tuned itself"),
        ("method/arm-no-momentum/learning_rates", [0.1], "nothing is tuned; remove"),
        ("method/fedavg/aggregator", "fedavgg", "no aggregator is named 'fedavgg'"),
        ("method/shared-basis/knob", {"name": "momentum", "values": [1]}, r"method\.shared-basis\.knob\.name"),
    ],
)
def test_mistakes_are_told_with_their_place(content, write, place, value, message):
    with pytest.raises(UserError, match=message):
        load_study(write(changed(content, place, value)))


def test_suites_are_refused_for_the_untouched_world(content, write):
    content["base"]["data"]["world"] = "untouched"
    with pytest.raises(
        UserError, match=r"study\.suites: they ask about the embedded world's families; .* suites = \[\]"
    ):
        load_study(write(content))
    content["study"]["suites"] = []
    study = load_study(write(content))
    assert run_recipe(study, "image", seed=1).data.world == "untouched"
    files = StudyFiles(study.study.folder)
    files.write_study(study)
    assert read_study(files.folder).toy.startswith(
        "Toy world: drawn scenes of 48 x 48 pixels of families and styles that"
    )


def test_a_study_has_one_world(content, write):
    content["scenario"]["iid"]["recipe"]["data"] = {"world": "untouched"}
    with pytest.raises(
        UserError, match=r"data\.world: embedded in scenario image, untouched in scenario iid; a study has"
    ):
        load_study(write(content))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.toml: no such recipe file"):
        load_study(tmp_path / "none.toml")


def test_values_can_be_overridden(content, write):
    study = load_study(write(content), ["study.workers=3", "tuning.seed=77"])
    assert study.study.workers == 3
    assert study.tuning.seed == 77


def test_a_scenario_adds_to_the_base(content, write):
    recipe = run_recipe(load_study(write(content)), "image", seed=2)
    assert (recipe.scenario.kind, recipe.scenario.clients, recipe.run.seed) == ("image", 2, 2)
    assert (recipe.data.num_pairs, recipe.federation.rounds) == (200, 2)


# methods that came after its runs were made
LATER = {"regmean", "tsv", "iso-c", "wudi", "model-stock", "svc"}
LATER |= {name for name, known in COMBINATIONS.items() if known.step not in (PLAIN_STEP, "canonical")}


def test_the_published_study_holds_every_method_once():
    """recipes/study.toml is the comparison that the documentation reports: every method of its time."""
    study = load_study(Path(__file__).parents[2] / "recipes" / "study.toml")
    arms = {name for name, method in study.method.items() if method.family == "ablation"}
    assert set(study.method) - arms == set(available_methods()) - {"pivotmerge", *LATER}
    assert {len(study.scenario[name].seeds) for name in ("image", "cross")} == {5}
    assert {len(study.scenario[name].seeds) for name in ("joint", "text")} == {3}
    assert study.base["data"]["num_pairs"] >= 16000
