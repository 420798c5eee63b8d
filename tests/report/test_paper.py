"""The paper's own tables: every cell there, none made up, and a reader that takes nothing else."""

import copy
import json
from importlib import resources

import pytest

from fedcmp.report.paper import BENCHMARKS, BY_HETEROGENEITY, METHODS, paper, paper_table_of, read_paper
from fedcmp.report.papertables import further_tables

TEXT = resources.files("fedcmp.report").joinpath("paper_tables.json").read_text(encoding="utf-8")


def test_all_36_rows_are_there_with_seven_cells_each():
    assert sum(len(table.rows) for table in paper().scores.values()) == 36
    assert {name: table.table for name, table in paper().scores.items()} == {
        "image": 1,
        "text": 2,
        "joint": 7,
        "cross": 8,
    }
    headline = {row.method: list(row.scores.values()) for row in paper_table_of("image").rows}
    assert headline["fedavg"] == [20.5, 23.7, 26.6, 40.0, 74.3, 1056.4, 33.6]
    assert headline["ties"] == [28.5, 29.6, 27.2, 41.3, 75.0, 1095.6, 31.4]
    assert headline["fedcmp"] == [32.5, 32.7, 30.5, 46.6, 74.5, 1143.2, 33.0]
    assert list(headline) == list(METHODS.values())
    assert paper_table_of("cross").rows[0].scores.keys() == set(BENCHMARKS.values())
    assert paper_table_of("iid") is None


def test_the_gains_have_the_order_that_the_paper_claims():
    gains = [paper().scores[name].gain() for name in BY_HETEROGENEITY]
    assert gains == sorted(gains, reverse=True)
    assert gains[0] == pytest.approx(0.192, abs=5e-4)


def test_ranks_against_counting():
    table = paper().scores["joint"]
    for title, rank in table.ranks().items():
        better = [sum(row[name] > table.rows[title][name] for row in table.rows.values()) for name in BENCHMARKS]
        assert rank == pytest.approx(1 + sum(better) / len(better))


def test_the_ablation_and_the_tables_of_clients():
    rows = dict(paper().ablation.rows)
    assert rows[()] == (40.0, 20.5, 23.7)
    assert rows["CSC", "RWF", "OPM"] == (46.6, 32.5, 32.7)
    assert paper().ablation.columns == ("LLaVA-Bench", "MM-Vet", "MMBench")
    for shares in paper().sizes.percent.values():
        assert sum(shares) == pytest.approx(100, abs=0.1)
    assert paper().tuning.OCRVQA.fedcmp == (48.9, 44.2, 41.7, 42.8, 48.1)
    assert [len(table.rows) for table in further_tables()] == [7, 6, 6, 4]


def changed(place, value):
    content = copy.deepcopy(json.loads(TEXT))
    *above, last = place
    at = content
    for key in above:
        at = at[key]
    if value is None:
        del at[last]
    else:
        at[last] = value
    return json.dumps(content)


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("scores", "image", "rows", "FedAvg", "POPE"), None, "FedAvg: POPE missing"),
        (("scores", "image", "rows", "FedAvg", "POPE"), "74.3", "valid number"),
        (("scores", "image", "rows", "FedAvg", "VQA"), 1.0, "VQA"),
        (("scores", "image", "rows", "FedSAM"), {}, "FedSAM"),
        (("scores", "image", "rows", "MOON"), None, "rows: MOON missing"),
        (("scores", "iid"), {"table": 3, "rows": {}}, "iid"),
        (("scores", "text"), None, "scores: text missing"),
        (("ablation", "rows", 0, 1), [40.0, 20.5], "a row has not 3 cells"),
        (("tuning", "GQA", "Fed-CMP"), [1.0], "at least 5"),
        (("sizes", "percent", "image"), [20.0], "a row has not 5 cells"),
        (("setup", "clients"), "five", "valid integer"),
        (("more",), 1, "more"),
    ],
)
def test_anything_else_is_refused(place, value, said):
    with pytest.raises(ValueError, match=said):
        read_paper(changed(place, value))
