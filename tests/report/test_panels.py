from xml.etree import ElementTree

from fedcmp.report.charts.lines import Line, LineChart
from fedcmp.report.panels import NARROW, Mark, Panel, cut_note, small_panel

from .fakes import render_part


def chart(*lines):
    return LineChart("Loss", lines, lambda value: f"{value:.2f}")


def shown(panel):
    return ElementTree.fromstring(render_part("panel", panel))


FAR = Line("far", "var(--m1)", "circle", ((1, 90.0), (2, 80.0)), free=True)
NEAR = Line("near", "var(--m2)", "circle", ((1, 2.0), (2, 1.0)))


def test_a_panel_escapes_its_texts():
    root = shown(Panel("k", "<a>", "<b>", chart(NEAR), note="<c>", mark=Mark("var(--m1)", "▲", "<d>")))
    assert root.find("figcaption/span[@class='sub']").text == "<b>"
    assert root.find("p").text == "<c>"
    assert root.get("data-of") == "<d>"
    assert root.find("figcaption/span[@class='swatch']").text == "▲"
    assert root.find("figcaption/span[@class='swatch']").tail.startswith("<a>")


def test_a_large_chart_comes_in_two_sizes_with_ids_of_their_own():
    root = shown(Panel("k", "Loss", "", chart(NEAR), 900.0))
    assert [float(svg.get("viewBox").split()[2]) for svg in root.iter("svg")] == [900, NARROW]
    assert [part.get("class") for part in root.iter("div")] == ["wide", "narrow"]
    clips = [clip.get("id") for clip in root.iter("clipPath")]
    assert len(set(clips)) == len(clips) == 2


def test_a_small_chart_names_lines_without_values():
    texts = [text.text for text in shown(small_panel("k", "Loss", "", chart(NEAR))).iter("text")]
    assert "near" in texts


def test_a_cut_chart_says_which_lines_it_loses():
    assert cut_note(chart(NEAR)) == ""
    assert cut_note(chart(NEAR, FAR)) == "The axis is cut: far runs out of the chart at its top."


def test_a_name_too_long_for_its_line_stands_whole_in_a_legend():
    name = "all clients' pairs <&>"
    lines = (
        Line(name, "var(--c0)", "circle", ((1.0, 1.0), (2.0, 2.0))),
        Line("a", "var(--c1)", "square", ((1.0, 9.0),)),
    )
    root = shown(small_panel("k", "Loss", "", LineChart("Loss", lines, str, y_range=(0.0, 3.0))))
    assert ["".join(entry.itertext()) for entry in root.iter("li")] == [f"● {name}", "■ a ↑"]
    assert [mark.get("style") for mark in root.findall(".//li/span")] == ["color:var(--c0)", "color:var(--c1)"]
    assert not [text for text in root.iter("text") if text.text in (name, "a ↑")]
