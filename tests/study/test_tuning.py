"""Successive halving against a known score."""

import json

import pytest

from fedcmp.study.recipe import StudyRecipe
from fedcmp.study.tuning import MethodTuning


def record(loss):
    return {"final": {"caption_loss": loss, "worst_family_loss": loss, "mean_loss": loss}}


@pytest.fixture
def tuning(content, tmp_path):
    content["tuning"]["rungs"] = [{"trials": 4, "captions": 100}, {"trials": 2, "captions": 150}]
    made = MethodTuning(StudyRecipe.model_validate(content), "shared-basis", tmp_path / "fedcmp.json")
    made.load()
    return made


def loss_of(settings, captions):
    """The second best on few pairs is the best on many."""
    rank = [(0.01, 0.0), (0.005, 0.5), (0.005, 0.0), (0.01, 0.5)]
    place = rank.index((settings["learning_rate"], settings["options"]["momentum"]))
    return 1 + place if captions == 100 else 1 - place


def test_the_best_go_on_and_the_best_of_them_is_chosen(tuning):
    first = tuning.pending()
    assert len(first) == 4
    for run, settings in first:
        tuning.note(run, settings, record(loss_of(settings, 100)))
    second = tuning.pending()
    assert [(s["learning_rate"], s["options"]["momentum"]) for _, s in second] == [(0.01, 0.0), (0.005, 0.5)]
    assert {run.recipe.data.num_pairs for run, _ in second} == {150}
    for run, settings in second:
        tuning.note(run, settings, record(loss_of(settings, 150)))
    assert tuning.pending() == []
    assert tuning.finish()["options"] == {"momentum": 0.5}
    kept = json.loads(tuning.file.read_text())
    assert len(kept["trials"]) == 6
    assert kept["chosen"]["learning_rate"] == 0.005


def test_an_interrupted_tuning_goes_on(tuning):
    (run, settings), *rest = tuning.pending()
    tuning.note(run, settings, record(2.0))
    again = MethodTuning(tuning.study, "shared-basis", tuning.file)
    again.load()
    assert [planned.hash for planned, _ in again.pending()] == [planned.hash for planned, _ in rest]


def test_settings_that_diverge_are_never_chosen(tuning):
    for run, settings in tuning.pending():
        tuning.note(run, settings, None if settings["learning_rate"] == 0.005 else record(3.0))
    for run, settings in tuning.pending():
        tuning.note(run, settings, record(5.0))
    assert tuning.finish()["learning_rate"] == 0.01


def test_all_settings_diverging_is_told(tuning):
    while tuning.pending():
        for run, settings in tuning.pending():
            tuning.note(run, settings, None)
    with pytest.raises(ValueError, match=r"method\.shared-basis: diverged at every setting"):
        tuning.finish()


def test_one_setting_is_not_tried_but_taken(content, tmp_path):
    tuning = MethodTuning(StudyRecipe.model_validate(content), "centralized", tmp_path / "centralized.json")
    assert tuning.pending() == []
    assert tuning.finish()["learning_rate"] == 0.003
    assert not tuning.file.exists()
