from fedcmp.report.scenario.records import Shown
from fedcmp.report.scenario.tables import (
    clients_table,
    heterogeneity_table,
    made_table,
    rounds_text,
    silhouette_table,
    sizes_table,
)

from ..fakes import text_rows
from .fakes import METRICS, facts, four, scenario


def titles(table):
    return [column.title for column in table.columns]


def test_sizes_have_a_row_a_scenario_and_a_column_a_client():
    table = sizes_table(Shown.of(facts(scenario("a"), scenario("b", clients=2))))
    assert titles(table)[:4] == ["Scenario", "client-0", "client-1", "client-2"]
    assert [column.colour for column in table.columns[1:4]] == ["var(--c0)", "var(--c1)", "var(--c2)"]
    assert text_rows(table) == [
        ["a", "100", "200", "300", "600", "3", "6", "2"],
        ["b", "100", "200", "–", "300", "2", "4", "2"],
    ]
    assert [round(cell.bar, 3) for cell in table.rows[0].cells[1:4]] == [0.333, 0.667, 1.0]


def test_clients_of_other_names_in_other_scenarios_are_numbered():
    other = scenario("b")
    other["clients"][1]["name"] = "hospital"
    assert titles(sizes_table(Shown.of(facts(scenario("a"), other))))[1:4] == ["client-0", "client 1", "client-2"]


def test_many_clients_are_shown_by_their_spread():
    table = sizes_table(Shown.of(facts(scenario("a", clients=13))))
    assert titles(table)[1:5] == ["Clients", "Smallest", "Median", "Largest"]
    assert [cell.text for cell in table.rows[0].cells[1:5]] == ["13", "100", "700", "1\u202f300"]


def test_the_silhouettes_say_whether_each_is_sharpest_in_its_own():
    sharper = scenario("joint", metric="joint", silhouette={"image": 0.1, "text": 0.4, "joint": 0.2, "cross": None})
    table = silhouette_table(Shown.of(facts(scenario("image"), sharper, scenario("iid", metric=None))))
    assert text_rows(table) == [
        ["image", "0.300 own", "0.100", "0.100", "0.100", "yes"],
        ["joint", "0.100", "0.400", "0.200 own", "–", "no: text"],
        ["iid", "0.100", "0.100", "0.100", "0.100", "–"],
        ["sharpest scenario", "image", "joint", "joint", "image", ""],
    ]
    assert [cell.bold for cell in table.rows[0].cells] == [False, True, False, False, False, True]
    assert table.rows[1].cells[2].shade == 1.0
    assert "last row" in table.notes[0]


def test_one_scenario_has_no_row_of_the_sharpest():
    table = silhouette_table(Shown.of(facts()))
    assert len(table.rows) == 1
    assert "last row" not in table.notes[0]


def test_heterogeneity_has_its_parts_and_the_random_floor():
    table = heterogeneity_table(Shown.of(facts(scenario("a"), scenario("one", clients=1))))
    assert table.rows[0].cells[1].plain == "0.300 (0.500 / 0.200)"
    assert table.rows[0].cells[5].plain == "0.900 (0.040)"
    assert table.rows[0].cells[8].plain == "0.250 to 0.270"
    assert [cell.plain for cell in table.rows[1].cells[1:]] == ["–"] * 7 + ["0.250"]


def test_each_client_has_a_row_with_its_words():
    table = clients_table(Shown.of(facts(scenario("a", clients=2))))
    expected = ["1 client-1", "a", "200", "1", "2", "2 rounds of 100", "0.260", "dog 5.2, cat 3.0"]
    assert text_rows(table)[1] == expected
    assert "500 captions" in table.notes[0]
    bare = facts(scenario("a"), missing="gone")
    for one in bare["scenarios"][0]["clients"]:
        one["words"] = []
    assert "Telling words" not in titles(clients_table(Shown.of(bare)))


def test_rounds_in_few_words():
    assert rounds_text([3200] * 10) == "10 rounds of 3\u202f200"
    assert rounds_text([66, 67]) == "2 rounds of 66 to 67"
    assert rounds_text([5]) == "1 round of 5"
    assert rounds_text([]) == "–"


def test_options_that_nobody_gave_are_left_out():
    table = made_table(Shown.of(four()))
    assert titles(table)[1:] == list(METRICS)
    assert [row.cells[0].text for row in table.rows] == [
        *("objective, mean similarity to the centroid", "similarity", "clients", "cap", "seed", "version of fedcmp"),
    ]
    assert [cell.text for cell in table.rows[3].cells] == ["cap"] + ["1\u202f000\u202f000"] * 4
