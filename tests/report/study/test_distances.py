from xml.etree import ElementTree

import pytest

from fedcmp.report.study.distances import distance_dots, distance_panel, distance_table, distances

from ..fakes import render_part
from .fakes import METHODS
from .test_claims import study_of


def test_shares_are_those_that_were_put_in(results):
    for one in results.comparisons:
        found = distances(one)
        whole = METHODS["fedavg"][3] - METHODS["centralized"][3]
        expected = {
            name: (METHODS["fedavg"][3] - loss) / whole
            for name, (_, federated, _, loss) in METHODS.items()
            if federated and name != "fedavg"
        }
        assert {name: estimate.mean for name, estimate in found.items()} == pytest.approx(expected)
        assert next(iter(found)) == "shared-basis"
        assert all(estimate.error > 0 for estimate in found.values())


def test_rows_stand_between_fedavg_and_centralized(results):
    dots = distance_dots(results, results.comparisons[0])
    assert [(dot.label, dot.value) for dot in dots if dot.frame] == [
        ("Centralized (pooled data)", 1.0),
        ("FedAvg", 0.0),
    ]
    assert [dot.value for dot in dots] == sorted((dot.value for dot in dots), reverse=True)
    assert [dot.label for dot in dots if dot.free] == ["FedAdam", "Fed-CMP (as published)"]
    assert [dot.label for dot in dots if dot.strong] == ["Fed-CMP"]


def test_the_picture_cuts_its_lower_end(results):
    panel = distance_panel(results, results.comparisons[0])
    texts = [text.text for text in ElementTree.fromstring(render_part("panel", panel)).iter("text")]
    assert "−186 % ←" in texts
    assert "24 %" in texts


def test_without_fedavg_or_centralized_there_is_no_distance(tmp_path):
    for place, losses in enumerate(
        ({"shared-basis": [0.4], "fedavg": [0.5]}, {"shared-basis": [0.4], "centralized": [0.3]})
    ):
        results = study_of(tmp_path / str(place), losses)
        assert distances(results.comparisons[0]) == {}
        assert distance_panel(results, results.comparisons[0]) is None
        assert distance_table(results) is None


def test_the_table_holds_methods_by_scenarios(results):
    table = distance_table(results)
    assert [column.title for column in table.columns] == [
        "Method",
        *(one.scenario.title for one in results.comparisons),
    ]
    ours = table.rows[0]
    assert ours.cells[0].text == "Fed-CMP"
    assert [cell.text for cell in ours.cells[1:]] == ["24.1"] * 4
    assert all(cell.bold for cell in ours.cells[1:])
    assert table.rows[-1].cells[0].text == "Fed-CMP (as published)"
