from xml.etree import ElementTree

import pytest

from fedcmp.report.charts.marks import Kind, MarkChart
from fedcmp.report.charts.sheet import chart_svg, charts_png

KINDS = (
    Kind("well", "var(--soft)", "circle"),
    Kind("<late>", "var(--m5)", "triangle"),
    Kind("none", "var(--m2)", "cross"),
)


def chart(*marks, rows=("north", "a site with a very long name & a sign")):
    return MarkChart("Sites", rows, KINDS, tuple(marks))


def drawn(given, width=600.0):
    return ElementTree.fromstring(chart_svg(given, "k", width))


def marks(root):
    """Each mark: (hover value, x, y)."""
    uses = [use for group in root.iter("g") if group.get("class") == "tips" for use in group.iter("use")]
    return [(use.find("title").text, float(use.get("x")), float(use.get("y"))) for use in uses]


def test_rows_are_from_the_top_and_rounds_from_the_left():
    root = drawn(chart((0, 1, 0, "a"), (0, 3, 1, "b"), (1, 1, 2, "c"), (1, 2, 0, "d")))
    places = {tip: (x, y) for tip, x, y in marks(root)}
    assert places.keys() == {"a", "b", "c", "d"}
    assert places["a"][1] == pytest.approx(places["b"][1])
    assert places["c"][1] - places["a"][1] == pytest.approx(20, abs=0.2)
    assert places["a"][0] == pytest.approx(places["c"][0])
    assert places["d"][0] - places["a"][0] == pytest.approx((places["b"][0] - places["a"][0]) / 2, abs=0.2)


def test_each_kind_has_its_colour_and_only_those_that_are_there_are_in_the_legend():
    given = chart((0, 1, 0, "a"), (1, 1, 2, "c"))
    text = chart_svg(given, "k", 600.0)
    assert "var(--m2)" in text
    assert "var(--m5)" not in text
    assert [kind.text for kind in given.legend] == ["well", "none"]


def test_names_are_cut_and_the_words_for_who_cannot_see_have_all_of_it():
    given = chart((0, 1, 0, "a"), (0, 2, 0, "b"), (0, 3, 1, "c"))
    root = drawn(given)
    assert "a site with a ver…" in [text.text for text in root.iter("text")]
    told = "north: well 2, <late> 1; a site with a very long name & a sign: nothing."
    assert given.describe() == f"Sites. {told}"
    assert root.get("aria-label") == given.describe()


@pytest.mark.parametrize("width", [300.0, 1120.0])
def test_many_rounds_fit_and_marks_stay_in_the_chart(width):
    given = chart(*((row, number, (row + number) % 3, "x") for row in range(2) for number in range(1, 201)))
    places = [x for _, x, _ in marks(drawn(given, width))]
    assert len(places) == 400
    assert 0 < min(places) < max(places) < width
    assert given.height(width) == 4 + 2 * 20 + 38


def test_it_is_drawn_in_a_file_too():
    assert charts_png([("Sites", chart((0, 1, 0, "a")))], 400.0).startswith(b"\x89PNG")
