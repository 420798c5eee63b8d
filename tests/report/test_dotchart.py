from xml.etree import ElementTree

import pytest

from fedcmp.report.dotchart import Dot, dot_chart


def draw(dots, width=400):
    markup = dot_chart(dots, title="Losses", axis="nats", write=lambda value: f"{value:.3f}", width=width)
    return ElementTree.fromstring(markup)


def centre(root, index):
    return float(root.findall("circle")[index].get("cx"))


def test_dots_lie_in_order_and_proportion():
    root = draw(
        [Dot(name, value, None, "var(--m1)", "circle") for name, value in zip("abc", (0.7, 0.8, 1.0), strict=True)]
    )
    first, second, third = (centre(root, index) for index in range(3))
    assert (third - first) / (second - first) == pytest.approx(3.0, rel=0.01)


def test_the_spread_is_drawn_to_scale():
    root = draw([Dot("a", 0.7, 0.1, "var(--m1)", "circle"), Dot("b", 1.0, None, "var(--m2)", "circle")])
    start, end = root.find("path[@class='error']").get("d").split("H")
    width = float(end) - float(start[1:].split()[0])
    assert width / (centre(root, 1) - centre(root, 0)) == pytest.approx(0.2 / 0.3, rel=0.02)


def test_a_free_dot_beyond_a_cut_axis_carries_an_arrow():
    root = draw(
        [
            Dot("a", 0.7, None, "x", "circle"),
            Dot("b", 0.9, None, "x", "circle"),
            Dot("l", 9.0, 1.0, "x", "circle", free=True),
        ]
    )
    assert "9.000 →" in [text.text for text in root.iter("text")]
    assert centre(root, 2) > centre(root, 1)


def test_names_are_escaped_and_told_to_those_who_cannot_see():
    root = draw([Dot('<b> & "c"', 0.7, None, "x", "circle", strong=True)])
    assert '<b> & "c": 0.700' in root.get("aria-label")
    label = next(text for text in root.iter("text") if text.get("class") == "label")
    assert (label.text, label.get("font-weight")) == ('<b> & "c"', "700")


def test_a_free_dot_may_lie_beyond_the_lower_end():
    dots = [Dot("a", 20.0, None, "x", "circle"), Dot("b", 0.0, None, "x", "circle")]
    dots.append(Dot("l", -300.0, 5.0, "x", "circle", free=True))
    markup = dot_chart(dots, title="Shares", axis="%", write=lambda value: f"{value:.0f}", width=400, cut_low=True)
    root = ElementTree.fromstring(markup)
    assert [text.text for text in root.iter("text") if text.get("class") == "label"][1::2] == ["20", "0", "-300 ←"]
    assert centre(root, 2) < centre(root, 1) < centre(root, 0)


def test_a_shorter_reach_cuts_more():
    dots = [Dot("a", 0.7, None, "x", "circle"), Dot("b", 0.8, None, "x", "circle")]
    dots.append(Dot("l", 0.9, None, "x", "circle", free=True))
    texts = {}
    for reach in (2.2, 1.1):
        markup = dot_chart(dots, title="t", axis="x", write=lambda value: f"{value:.1f}", width=400, reach=reach)
        texts[reach] = [text.text for text in ElementTree.fromstring(markup).iter("text")]
    assert "0.9" in texts[2.2]
    assert "0.9 →" in texts[1.1]
