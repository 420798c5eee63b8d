from xml.etree import ElementTree

import pytest

from fedcmp.report.methods import CAPTION_LOSS
from fedcmp.report.study import Results, load_study
from fedcmp.report.study.metrics import SUITES, WORST_FAMILY
from fedcmp.report.study.trajectories import (
    oscillation_table,
    oscillations,
    trajectory,
    trajectory_chart,
    trajectory_panels,
)

from ..fakes import render_part
from .fakes import add_run, run_content, write_study

POPE = next(suite for suite in SUITES if suite.key == "pope-world")


def study_with(folder, curves):
    """A study whose methods have the given curves: method -> one list of caption losses a seed."""
    write_study(folder, methods=tuple(curves), scenarios=("image",), change=lambda content: None, extras=False)
    for method, by_seed in curves.items():
        for seed, losses in enumerate(by_seed, start=1):
            content = run_content(method, "image", seed, final=losses[-1])
            content["rounds_evaluated"] = [
                {"round": round_, "caption_loss": loss, "suites": None} for round_, loss in enumerate(losses, start=1)
            ]
            add_run(folder, content)
    return Results.of(load_study(folder))


@pytest.fixture
def two_curves(tmp_path):
    curves = {
        "shared-basis": [[0.9, 0.5, 0.6, 0.4], [0.8, 0.7, 0.5, 0.6]],
        "fedavg": [[0.9, 0.8, 0.7, 0.6], [0.8, 0.7, 0.6, 0.5]],
    }
    return study_with(tmp_path, curves)


def test_a_trajectory_is_the_mean_over_seeds_with_its_error(two_curves):
    entry = two_curves.comparisons[0].named("shared-basis")
    found = trajectory(entry, "caption_loss")
    assert [estimate.mean for estimate in found.values()] == pytest.approx([0.85, 0.6, 0.55, 0.5])
    assert [estimate.error for estimate in found.values()] == pytest.approx([0.05, 0.1, 0.05, 0.1])
    assert list(found) == [1, 2, 3, 4]


def test_only_rounds_that_every_seed_reached_are_drawn(tmp_path):
    results = study_with(tmp_path, {"fedavg": [[0.9, 0.8, 0.7], [0.8, 0.7]]})
    assert list(trajectory(results.comparisons[0].named("fedavg"), "caption_loss")) == [1, 2]


def test_seeds_that_were_judged_at_the_end_only_leave_the_curve_alone(tmp_path):
    study_with(tmp_path, {"fedavg": [[0.9, 0.8, 0.7], [0.8, 0.7, 0.6]]})
    content = run_content("fedavg", "image", 3, final=0.9)
    content["rounds_evaluated"] = [{"round": 3, "caption_loss": 0.9, "suites": None}]
    add_run(tmp_path, content)
    entry = Results.of(load_study(tmp_path)).comparisons[0].named("fedavg")
    assert [p.mean for p in trajectory(entry, "caption_loss").values()] == pytest.approx([0.85, 0.75, 0.65])
    assert entry.estimate("caption_loss").count == 3


def test_oscillation_is_summed_per_seed(two_curves):
    one = two_curves.comparisons[0]
    found = oscillations(one.named("shared-basis"), CAPTION_LOSS)
    assert (found.mean, found.error, found.count) == (pytest.approx(0.1), pytest.approx(0.0), 2)
    assert oscillations(one.named("fedavg"), CAPTION_LOSS).mean == 0
    assert oscillations(one.named("fedavg"), POPE) is None


def test_suites_oscillate_by_their_drops(tmp_path):
    folder = write_study(tmp_path, methods=("fedavg",), scenarios=("image",), seeds=(1,), change=lambda content: None)
    content = run_content("fedavg", "image", 1)
    content["rounds_evaluated"] = [
        {"round": round_, "caption_loss": 0.5, "suites": {"pope-world": score}}
        for round_, score in enumerate((60, 65, 63, 70, 66))
    ]
    add_run(folder, content)
    entry = Results.of(load_study(folder)).comparisons[0].named("fedavg")
    assert oscillations(entry, POPE).mean == pytest.approx(6.0)


def test_the_chart_names_the_featured_and_bundles_the_others(results):
    chart = trajectory_chart(results, results.comparisons[0], CAPTION_LOSS)
    named = {line.label for line in chart.lines if line.named}
    assert named == {"Fed-CMP", "Fed-CMP (as published)", "FedAvg", "DiLoCo", "FedAvgM", "TIES"}
    grey = [line for line in chart.lines if not line.named]
    assert {line.label for line in grey} == {"FedAdam"}
    assert all(line.colour == "var(--bundle)" and not line.band for line in grey)
    assert [line.label for line in chart.lines if line.strong] == ["Fed-CMP"]
    assert {level.label.split()[0] for level in chart.levels} == {"Centralized", "blind"}
    assert all(len(line.band) == 10 for line in chart.lines if line.named)


def test_a_method_has_the_same_colour_in_every_chart(results):
    seen = {}
    for one in results.comparisons:
        for metric in (CAPTION_LOSS, WORST_FAMILY, POPE):
            for line in trajectory_chart(results, one, metric).lines:
                if line.named:
                    assert seen.setdefault(line.label, (line.colour, line.marker)) == (line.colour, line.marker)
    assert len({colour for colour, _ in seen.values()}) == len(seen)


def test_panels_are_well_formed_and_those_of_suites_small(results):
    large, small = trajectory_panels(results, results.comparisons[0])
    for panel in (large, *small):
        ElementTree.fromstring(render_part("panel", panel))
    assert [panel.title for panel in small] == ["Worst-family loss", *(suite.title for suite in SUITES)]
    assert "Grey: the other federated methods" in large.note


def test_what_was_evaluated_once_has_no_curve(tmp_path):
    results = study_with(tmp_path, {"fedavg": [[0.7], [0.6]]})
    assert trajectory_panels(results, results.comparisons[0]) == (None, [])
    assert oscillation_table(results, results.comparisons[0]) is None


def test_the_steadiest_federated_method_is_bold(two_curves):
    table = oscillation_table(two_curves, two_curves.comparisons[0])
    assert [column.title for column in table.columns] == ["Method", "Caption loss"]
    assert {row.cells[0].text: (row.cells[1].text, row.cells[1].bold) for row in table.rows} == {
        "Fed-CMP": ("0.100", False),
        "FedAvg": ("0.000", True),
    }
