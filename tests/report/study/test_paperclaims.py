"""The paper's claims judged by studies whose answer is known, and its cells next to ours."""

import json

import pytest

from fedcmp.report.study import Results, load_study
from fedcmp.report.study.benchmarktables import cells_table, cells_tables
from fedcmp.report.study.paperclaims import claims_of_paper_table, paper_claims

from .fakes import SEEDS, WIGGLE, add_arms, add_run, run_content, write_study

GAINS = {"image": 0.08, "cross": 0.06, "joint": 0.04, "text": 0.02}


def judged(folder, start):
    claims = [one for one in paper_claims(Results.of(load_study(folder))) if one.claim.startswith(start)]
    return [one.verdict for one in claims]


@pytest.fixture(scope="module")
def agreeing(tmp_path_factory):
    """A world in which the paper is right: FedAvg at .5, Fed-CMP below it by what GAINS says, FedProx above."""
    folder = tmp_path_factory.mktemp("agreeing")

    write_study(folder, methods=("fedavg",), scenarios=[*GAINS, "iid"], change=lambda _: None)
    for scenario in [*GAINS, "iid"]:
        gain = GAINS.get(scenario, 0.01)
        losses = {"fedavg": 0.5, "fedcmp": 0.5 - gain, "fedprox": 0.52, "ties": 0.49, "moon": 0.5}
        for place, (method, loss) in enumerate(losses.items()):
            for seed in SEEDS:
                noise = 0.0002 * ((seed * 7 + place) % 3)
                add_run(folder, run_content(method, scenario, seed, final=loss + WIGGLE[seed] + noise))
    return folder


def test_where_the_paper_is_right_it_is_confirmed(agreeing):
    assert judged(agreeing, "Fed-CMP beats FedAvg") == ["confirmed"]
    assert judged(agreeing, "The gain over FedAvg is ordered") == ["confirmed", "not testable here"]
    assert judged(agreeing, "The gain grows with heterogeneity") == ["confirmed", "not testable here"]
    assert judged(agreeing, "FedProx is below FedAvg") == ["confirmed"]
    assert judged(agreeing, "TIES is the best of the rivals") == ["confirmed"]
    assert judged(agreeing, "gamma 1") == ["not testable here"]
    assert judged(agreeing, "A projector of Fed-CMP, tuned further") == ["not testable here"]


def test_where_it_is_wrong_it_is_contradicted(tmp_path):
    """The fakes' Fed-CMP ends far above FedAvg, as the reconstruction does."""
    write_study(tmp_path, methods=("fedavg", "fedcmp", "shared-basis"), scenarios=("image", "text"), extras=False)
    assert judged(tmp_path, "Fed-CMP beats FedAvg") == ["contradicted"]
    assert judged(tmp_path, "The gain over FedAvg is ordered") == ["not testable here"] * 2  # two scenarios of four


def test_an_arm_that_changes_nothing_contradicts_a_gain(tmp_path):
    write_study(tmp_path, methods=("fedavg",), scenarios=("image",), change=lambda _: None, extras=False)
    for seed in SEEDS:
        add_run(tmp_path, run_content("fedavg", "image", seed, final=0.430 + WIGGLE[seed]))
    add_arms(tmp_path)
    plan = json.loads((tmp_path / "study.json").read_text())
    plan["methods"]["fedavg"] |= {"table": "3", "arms": {"CSC": False, "RWF": False, "OPM": False}}
    (tmp_path / "study.json").write_text(json.dumps(plan))
    assert judged(tmp_path, "CSC improves on none") == ["contradicted"]  # the same losses to the digit
    assert judged(tmp_path, "RWF improves on none") == ["confirmed"]
    assert judged(tmp_path, "CSC + RWF + OPM improves") == ["contradicted"]
    assert judged(tmp_path, "OPM improves") == ["not testable here"]


def test_the_table_has_a_row_per_claim_and_a_verdict_in_each(agreeing):
    table = claims_of_paper_table(Results.of(load_study(agreeing)))
    assert len(table.rows) == 16
    assert all(row.cells[-1].bold and row.cells[-1].text for row in table.rows)


def test_without_a_run_every_cell_of_ours_is_empty():
    tables = cells_tables(None)
    assert [one.key for one in tables] == ["cells-image", "cells-cross", "cells-joint", "cells-text"]
    table = tables[0].table
    assert len(table.rows) == 18
    assert [cell.text for cell in table.rows[1].cells] == ["Local Training, here", *["–"] * 7]
    assert "63 of 63 cells were not measured here" in table.notes[0]
    assert cells_table("iid", {}) is None


def test_a_study_of_toys_shows_none_of_the_papers_cells(agreeing):
    assert cells_tables(Results.of(load_study(agreeing))) == []
