import math

import pytest

from fedcmp.runs.records import WORLD_SUITES
from fedcmp.runs.study_records import (
    Blind,
    ScenarioFacts,
    StudyMethod,
    StudyRun,
    Tuning,
)


def test_an_arm_of_one_table():
    entry = {"title": "RWF", "federated": True, "family": "ablation", "table": "3", "arms": {"CSC": False, "RWF": True}}
    assert StudyMethod.named("arm", entry).arms == {"3": {"CSC": False, "RWF": True}}


def test_an_arm_of_two_tables_has_parts_of_its_own_in_each():
    arms = {"3": {"RWF": True}, "4": {"gamma": 0.5, "quality": "cosine", "odd": [1]}}
    method = StudyMethod.named("arm", {"table": ["3", "4"], "arms": arms})
    assert method.arms == {"3": {"RWF": True}, "4": {"gamma": 0.5, "quality": "cosine"}}


@pytest.mark.parametrize("entry", [{}, {"arms": {"CSC": True}}, {"table": 3}, {"table": ""}])
def test_a_method_without_a_table_is_no_arm(entry):
    method = StudyMethod.named("fedavg", entry)
    assert (method.arms, method.title, method.federated, method.family) == ({}, "fedavg", True, "baseline")


def test_the_mean_loss_is_computed_where_it_is_not_noted():
    final = {"caption_loss": 0.4, "worst_family_loss": 0.6}
    assert StudyRun.from_line({"final": final}).values["mean_loss"] == pytest.approx(0.5)
    noted = StudyRun.from_line({"final": {**final, "mean_loss": 0.51}})
    assert noted.values["mean_loss"] == 0.51


def test_a_failed_run_has_no_figure_that_helps():
    run = StudyRun.from_line({"failed": "it\n diverged", "final": {"caption_loss": 0.1}})
    assert run.failed == "it diverged"
    assert set(run.values) == {*WORLD_SUITES, "caption_loss", "worst_family_loss", "worst_client_loss", "mean_loss"}
    assert all(math.isnan(value) for value in run.values.values())


def test_question_accuracy_is_in_per_cent():
    run = StudyRun.from_line({"rounds_evaluated": [{"round": 1, "question_accuracy": 0.625}]})
    assert run.points[0].values == {"question_accuracy": 62.5}


def test_rounds_come_in_order_and_once():
    lines = [{"round": 2, "caption_loss": 0.8}, {"round": 1, "caption_loss": 0.9}, {"round": 2, "caption_loss": 0.7}]
    run = StudyRun.from_line({"rounds_evaluated": lines})
    assert [(point.round, point.values["caption_loss"]) for point in run.points] == [(1, 0.9), (2, 0.7)]


def test_the_blind_reference():
    suites = {"pope-world": {"score": 50.0, "chance": 50.0, "noise": 1.4, "items": 400}, "mme-world": 640.0}
    blind = Blind.from_line({"suites": suites, "caption_loss": 0.9})
    assert (blind.values, blind.noise) == (
        {"caption_loss": 0.9, "pope-world": 50.0, "mme-world": 640.0},
        {"pope-world": 1.4},
    )


def test_a_map_with_gaps_keeps_its_whole_points():
    drawn = {"metric": "image", "x": [0.0, 1.0, None], "y": [2.0, "?", 1.0], "client": [3, 1, 1]}
    holding = ScenarioFacts.from_line(
        {"sizes": [5, "x"], "map": drawn, "heterogeneity": {"divergence": 0.4, "a": {"b": 1}, "c": [2]}}
    )
    assert (holding.points, holding.sizes) == (((0.0, 2.0, 3),), [5])
    assert holding.heterogeneity == {"divergence": 0.4, "a b": 1.0}


def test_trials_of_a_tuning():
    tuning = Tuning.from_line({"trials": [{"settings": {"mu": 0.1}, "captions": 4000, "caption_loss": 0.6}, 3]})
    assert [(trial.settings, trial.captions, trial.caption_loss) for trial in tuning.trials] == [
        ({"mu": 0.1}, 4000, 0.6),
        ({}, None, None),
    ]
