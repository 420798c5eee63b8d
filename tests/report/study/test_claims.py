import math

import pytest
import scipy.stats

from fedcmp.report.methods import CAPTION_LOSS
from fedcmp.report.study import Results, load_study
from fedcmp.report.study.claims import claim, claims, claims_table, conditions
from fedcmp.report.study.metrics import MEAN_RANK, WORST_FAMILY
from fedcmp.report.study.saying import ours_sentences

from .fakes import run_content, write_study


def study_of(folder, losses, seeds=None):
    """A study on image clusters with the given caption losses: method -> one loss a seed."""
    count = seeds or max(map(len, losses.values()))

    def change(content):
        given = losses[content["method"]]
        seed = content["seed"]
        return run_content(content["method"], "image", seed, final=given[seed - 1]) if seed <= len(given) else None

    write_study(
        folder, methods=tuple(losses), scenarios=("image",), seeds=range(1, count + 1), change=change, extras=False
    )
    return Results.of(load_study(folder))


def loss_claim(folder, losses):
    return claim(study_of(folder, losses).comparisons[0], CAPTION_LOSS)


def test_the_study_with_known_means_is_won(results):
    for one in results.comparisons:
        found = claims(one)
        assert [judged.met for judged in found] == [True, True, True]
        assert found[0].rival.method.name == "diloco"
        assert found[0].difference.mean == pytest.approx(0.417 - 0.395)
        assert (found[0].beaten, found[0].rivals) == (6, 6)


def test_a_lead_within_two_errors_is_not_met(tmp_path):
    # differences .01, .00, .02, .01: mean .01, error .00408; the one of ties .06 without spread
    losses = {
        "shared-basis": [0.40, 0.42, 0.41, 0.43],
        "diloco": [0.41, 0.41, 0.43, 0.43],
        "ties": [0.46, 0.48, 0.47, 0.49],
    }
    losses["fedavg"] = [0.41, 0.42, 0.43, 0.44]
    found = loss_claim(tmp_path, losses)
    assert not found.met
    assert found.rival.method.name == "diloco"
    assert (found.beaten, found.rivals) == (2, 3)
    assert "0.415 against 0.420 of DiLoCo; difference +0.0050 (standard error 0.0065), n = 4" in found.reason


def test_every_rival_must_be_beaten_also_a_restless_one(tmp_path):
    losses = {"shared-basis": [0.40, 0.40, 0.40], "fedavg": [0.42, 0.421, 0.422], "ties": [0.41, 0.9, 0.42]}
    found = loss_claim(tmp_path, losses)
    assert (found.met, found.rival.method.name, found.beaten) == (False, "ties", 1)


def test_ours_behind_is_not_met_and_says_so(tmp_path):
    found = loss_claim(tmp_path, {"shared-basis": [0.44, 0.45], "fedavg": [0.40, 0.42]})
    assert not found.met
    assert "0.445 against 0.410 of FedAvg; difference −0.0350 (standard error 0.0050), n = 2" in found.reason


def test_one_seed_meets_nothing(tmp_path):
    results = study_of(tmp_path, {"shared-basis": [0.2], "fedavg": [0.9]})
    found = claims(results.comparisons[0])
    assert [judged.met for judged in found] == [False, False, False]
    assert found[0].reason == "0.200 against 0.900 of FedAvg; one seed (+0.7000), no spread known"


def test_a_rival_without_a_common_seed_is_not_beaten(tmp_path):
    def change(content):
        odd = content["seed"] % 2 == 1
        return content if odd == (content["method"] == "shared-basis") else None

    write_study(tmp_path, methods=("shared-basis", "ties"), scenarios=("image",), change=change)
    found = claim(Results.of(load_study(tmp_path)).comparisons[0], CAPTION_LOSS)
    assert (found.met, found.difference) == (False, None)
    assert "no seed that both ran" in found.reason


def test_a_rival_that_diverged_is_beaten_and_ours_diverged_is_not_met(tmp_path):
    losses = {"shared-basis": [0.40, 0.41], "fedavg": [0.45, 0.47], "ties": [0.45, math.inf]}
    assert loss_claim(tmp_path / "a", losses).met
    losses["shared-basis"] = [0.40, math.inf]
    found = loss_claim(tmp_path / "b", losses)
    assert (found.met, found.beaten) == (False, 0)


def test_without_ours_or_without_rivals_nothing_is_judged(tmp_path):
    assert claims(study_of(tmp_path / "a", {"fedavg": [0.4, 0.5]}).comparisons[0]) == []
    assert claims(study_of(tmp_path / "b", {"shared-basis": [0.4, 0.5], "local": [1.0, 1.1]}).comparisons[0]) == []


def test_the_table_says_met_or_not_with_the_numbers(results, tmp_path):
    table = claims_table(results)
    assert [row.cells[0].text for row in table.rows] == [one.scenario.title for one in results.comparisons]
    assert all(row.best for row in table.rows)
    assert [cell.text for cell in table.rows[0].cells[3:]] == ["met", "met", "met"]
    assert "(6 of 6)" in table.rows[0].cells[3].detail
    lost = claims_table(study_of(tmp_path, {"shared-basis": [0.44, 0.45], "fedavg": [0.40, 0.42]}))
    assert [cell.text for cell in lost.rows[0].cells[3:]] == ["not met"] * 3
    assert not lost.rows[0].best


def test_mean_ranks_are_compared_seed_by_seed(tmp_path):
    results = study_of(
        tmp_path, {"shared-basis": [0.3, 0.31, 0.3], "fedavg": [0.5, 0.51, 0.5], "centralized": [0.2] * 3}
    )
    found = claim(results.comparisons[0], MEAN_RANK)
    assert (found.met, found.ours.mean, found.theirs.mean, found.difference.mean) == (True, 1.0, 2.0, 1.0)


def test_the_note_tells_how_often_chance_alone_reaches_two_errors(results):
    spread, note = claims_table(results).notes
    assert spread == "± is the standard deviation over seeds."
    for seeds, told in ((2, "15 %"), (3, "9 %"), (5, "6 %")):
        assert f"{100 * scipy.stats.t.sf(2, seeds - 1):.0f} %" == told
        assert told in note


def test_without_suites_the_mean_rank_is_no_condition(tmp_path):
    def without_suites(content):
        return {**content, "final": {**content["final"], "suites": {}}, "rounds_evaluated": []}

    write_study(tmp_path, scenarios=("image",), change=without_suites, extras=False)
    (tmp_path / "references" / "blind.json").unlink(missing_ok=True)
    results = Results.of(load_study(tmp_path))
    assert conditions(results) == (CAPTION_LOSS, WORST_FAMILY)
    table = claims_table(results)
    assert not any("mean rank" in column.title for column in table.columns)
    assert table.rows[0].best
    said = "".join(phrase.text for phrase in ours_sentences(results))
    assert said.startswith("Fed-CMP wins 1 of 1 scenarios on caption loss and worst-family loss by more than two")
