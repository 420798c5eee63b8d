from xml.etree import ElementTree

import pytest

from fedcmp.report.charts.dots import Dot, DotChart
from fedcmp.report.charts.sheet import chart_svg


def draw(dots, **more):
    given = {"title": "Losses", "axis": "nats", "write": lambda value: f"{value:.3f}", **more}
    return ElementTree.fromstring(chart_svg(DotChart(dots=tuple(dots), **given), "k", 400))


def groups(root, kind):
    return [group for group in root.iter("g") if group.get("class") == kind]


def labels(root):
    return [text for group in groups(root, "label") for text in group.iter("text")]


def centre(root, index):
    return float(groups(root, "tips")[index].find(".//use").get("x"))


def test_dots_lie_in_order_and_proportion():
    root = draw(
        [Dot(name, value, None, "var(--m1)", "circle") for name, value in zip("abc", (0.7, 0.8, 1.0), strict=True)]
    )
    first, second, third = (centre(root, index) for index in range(3))
    assert (third - first) / (second - first) == pytest.approx(3.0, rel=0.01)


def test_the_spread_is_drawn_to_scale():
    root = draw([Dot("a", 0.7, 0.1, "var(--m1)", "circle"), Dot("b", 1.0, None, "var(--m2)", "circle")])
    start, end = (float(place.split()[0]) for place in groups(root, "error")[0].find("path").get("d")[1:].split("L"))
    width = end - start
    assert width / (centre(root, 1) - centre(root, 0)) == pytest.approx(0.2 / 0.3, rel=0.02)


def test_a_free_dot_beyond_a_cut_axis_carries_an_arrow():
    root = draw(
        [
            Dot("a", 0.7, None, "var(--m1)", "circle"),
            Dot("b", 0.9, None, "var(--m1)", "circle"),
            Dot("l", 9.0, 1.0, "var(--m1)", "circle", free=True),
        ]
    )
    assert "9.000 →" in [text.text for text in root.iter("text")]
    assert centre(root, 2) > centre(root, 1)


def test_names_are_escaped_and_told_to_those_who_cannot_see():
    root = draw([Dot('<b> & "c"', 0.7, None, "var(--m1)", "circle", strong=True)])
    assert '<b> & "c": 0.700' in root.get("aria-label")
    assert labels(root)[0].text == '<b> & "c"'
    assert "font-weight:700" in labels(root)[0].get("style")
    assert [title.text for title in root.iter("title")] == ['<b> & "c": 0.700']


def test_a_free_dot_may_lie_beyond_the_lower_end():
    dots = [Dot("a", 20.0, None, "var(--m1)", "circle"), Dot("b", 0.0, None, "var(--m1)", "circle")]
    dots.append(Dot("l", -300.0, 5.0, "var(--m1)", "circle", free=True))
    root = draw(dots, write=lambda value: f"{value:.0f}", cut_low=True)
    assert [text.text for text in labels(root)][1::2] == ["20", "0", "-300 ←"]
    assert centre(root, 2) < centre(root, 1) < centre(root, 0)


def test_a_shorter_reach_cuts_more():
    dots = [Dot("a", 0.7, None, "var(--m1)", "circle"), Dot("b", 0.8, None, "var(--m1)", "circle")]
    dots.append(Dot("l", 0.9, None, "var(--m1)", "circle", free=True))
    texts = {}
    for reach in (2.2, 1.1):
        texts[reach] = [text.text for text in labels(draw(dots, write=lambda value: f"{value:.1f}", reach=reach))]
    assert "0.9" in texts[2.2]
    assert "0.9 →" in texts[1.1]
