"""The study's first screen: one heat map of methods by scenarios."""

import math
from statistics import fmean

import pytest

from fedcmp.report.study import Results, load_study
from fedcmp.report.study.heat import heat_map

from .fakes import BLIND_LOSS, caption_loss, write_study
from .test_claims import study_of


def test_methods_are_rows_and_scenarios_columns_the_best_first(results):
    table = heat_map(results)
    assert [column.title for column in table.columns[1:]] == [one.scenario.title for one in results.comparisons]
    names = [row.cells[0].text for row in table.rows]
    assert names[:3] == ["Fed-CMP", "DiLoCo", "FedAvgM"]
    assert names[-3:] == ["Centralized (pooled data)", "Local (each client alone)", "blind"]
    assert [row.reference for row in table.rows[-3:]] == [True] * 3


def test_shades_run_from_the_worst_to_the_scenarios_best(results):
    rows = {row.cells[0].text: row.cells for row in heat_map(results).rows}
    best, middle = (
        fmean(caption_loss(name, "image", seed) for seed in range(1, 6)) for name in ("shared-basis", "ties")
    )
    assert rows["Fed-CMP"][1].shade == pytest.approx(1.0)
    worst = fmean(caption_loss("fedcmp", "image", seed) for seed in range(1, 6))
    assert worst < BLIND_LOSS
    at = [column.title for column in heat_map(results).columns].index("Image clusters")
    assert rows["TIES"][at].shade == pytest.approx(1 - math.sqrt((middle - best) / (worst - best)))
    assert rows["Fed-CMP (as published)"][at].shade == pytest.approx(0.0)
    assert rows["Local (each client alone)"][1].shade is None


@pytest.mark.parametrize(("ours", "bold"), [([0.30, 0.31], True), ([0.395, 0.43], False), ([0.30], False)])
def test_only_a_lead_beyond_two_standard_errors_is_bold(tmp_path, ours, bold):
    table = heat_map(study_of(tmp_path, {"shared-basis": ours, "fedavg": [0.40, 0.42][: len(ours)]}))
    assert [row.cells[1].bold for row in table.rows[:2]] == [bold, False]


def test_without_a_federated_figure_there_is_none(tmp_path):
    folder = write_study(tmp_path, change=lambda content: None, scenarios=("image",))
    assert heat_map(Results.of(load_study(folder))) is None


def test_a_method_that_ran_nowhere_has_no_row(tmp_path):
    folder = write_study(
        tmp_path, scenarios=("image",), change=lambda content: None if content["method"] == "ties" else content
    )
    assert "TIES" not in [row.cells[0].text for row in heat_map(Results.of(load_study(folder))).rows]
