"""Ours against every rival: the differences, their p-values by SciPy and Holm's rule written out, the worst client."""

import pytest
import scipy.stats

from fedcmp.report.study import Results, load_study
from fedcmp.report.study.numbers import study_numbers
from fedcmp.report.study.pairedtests import paired_tests_table
from fedcmp.report.study.resulttables import result_tables

from .fakes import write_study

METHODS = ("fedavg", "diloco", "ties", "shared-basis", "centralized")


def with_clients(content):
    """As files have it from version 0.3 on: the worst client .1 above the caption loss."""
    final = content["final"]
    return {**content, "final": {**final, "worst_client": "client-2", "worst_client_loss": final["caption_loss"] + 0.1}}


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tests") / "study"
    write_study(folder, methods=METHODS, scenarios=("image", "cross"), change=with_clients, extras=False)
    return Results.of(load_study(folder))


def holm(p_values):
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    out, highest = [0.0] * len(p_values), 0.0
    for place, i in enumerate(order):
        highest = max(highest, (len(order) - place) * p_values[i])
        out[i] = min(1.0, highest)
    return out


def test_every_rival_has_its_difference_and_p_value(measured):
    table = paired_tests_table(measured)
    assert [column.title for column in table.columns] == [
        "Scenario",
        "Rival",
        "Caption loss: rival minus ours",
        "p",
        "Worst-family loss: rival minus ours",
        "p",
        "Worst-client loss: rival minus ours",
        "p",
    ]
    one = measured.comparisons[0]
    rows = [row for row in table.rows if row.cells[0].plain.startswith("Image")]
    assert len(rows) == 3
    ours = one.named("shared-basis")
    rivals = [entry for entry in one.entries if entry is not ours]
    for at, key in ((2, "caption_loss"), (4, "worst_family_loss"), (6, "worst_client_loss")):
        mine = ours.by_seed(key)
        tested = []
        for row, rival in zip(rows, rivals, strict=True):
            theirs = rival.by_seed(key)
            assert row.cells[at].value == pytest.approx(sum(theirs[s] - mine[s] for s in mine) / 5)
            tested.append(scipy.stats.ttest_rel([theirs[s] for s in mine], [mine[s] for s in mine]).pvalue)
        assert [row.cells[at + 1].value for row in rows] == pytest.approx(holm(tested))


def test_the_worst_client_is_a_column_of_the_tables_and_a_number(measured, results):
    assert any(column.title == "Worst-client loss" for column in result_tables(measured)[0].table.columns)
    numbers = study_numbers(measured)["scenarios"]["image"]
    assert set(numbers["ours_against"]["worst_client_loss"]) == {"fedavg", "diloco", "ties"}
    shown = numbers["methods"]["fedavg"]["metrics"]
    assert shown["worst_client_loss"]["mean"] == pytest.approx(shown["caption_loss"]["mean"] + 0.1)
    older = result_tables(results)[0].table.columns
    assert not any("Worst-client" in column.title for column in older)
    assert not any("Worst-client" in column.title for column in paired_tests_table(results).columns)


def test_one_seed_tests_nothing(tmp_path):
    write_study(tmp_path, methods=METHODS, scenarios=("image",), seeds=(1,), extras=False)
    assert paired_tests_table(Results.of(load_study(tmp_path))) is None


def test_a_method_that_failed_once_has_no_worst_client(tmp_path):
    def change(content):
        if (content["method"], content["seed"]) == ("ties", 2):
            return {key: value for key, value in content.items() if key != "final"} | {"failed": "diverged"}
        return with_clients(content)

    write_study(tmp_path, methods=METHODS, scenarios=("image",), change=change, extras=False)
    one = Results.of(load_study(tmp_path)).comparisons[0]
    assert not one.estimate(one.named("ties"), "worst_client_loss").finite
    assert one.estimate(one.named("fedavg"), "worst_client_loss").finite
