from xml.etree import ElementTree

from fedcmp.report.linechart import Line, LineChart
from fedcmp.report.panels import NARROW, Panel, cut_note, large_chart, small_chart


def chart(*lines):
    return LineChart("k", "Loss", lines, lambda value: f"{value:.2f}")


FAR = Line("far", "x", "circle", ((1, 90.0), (2, 80.0)), free=True)
NEAR = Line("near", "x", "circle", ((1, 2.0), (2, 1.0)))


def test_a_panel_escapes_its_texts():
    root = ElementTree.fromstring(Panel("<a>", "<b>", "<svg/>", "<c>", "var(--m1)").html())
    assert root.find("figcaption/span[@class='sub']").text == "<b>"
    assert root.find("p").text == "<c>"
    assert root.find("figcaption/span[@class='swatch']").tail.startswith("<a>")


def test_a_large_chart_comes_in_two_sizes_with_ids_of_their_own():
    root = ElementTree.fromstring(f"<r>{large_chart(chart(NEAR), 900, 300)}</r>")
    assert [float(svg.get("viewBox").split()[2]) for svg in root.iter("svg")] == [900, NARROW]
    assert len({clip.get("id") for clip in root.iter("clipPath")}) == 2


def test_a_small_chart_names_lines_without_values():
    labels = [text.text for text in ElementTree.fromstring(small_chart(chart(NEAR))).iter("text")]
    assert "near" in labels


def test_a_cut_picture_says_which_lines_it_loses():
    assert cut_note(chart(NEAR)) == ""
    assert cut_note(chart(NEAR, FAR)) == "The axis is cut: far runs out of the picture at its top."


def test_a_name_too_long_for_its_line_stands_whole_in_a_legend():
    name = "all clients' pairs <&>"
    lines = (Line(name, "red", "circle", ((1.0, 1.0), (2.0, 2.0))), Line("a", "blue", "square", ((1.0, 9.0),)))
    drawing = ElementTree.fromstring(small_chart(LineChart("k", "Loss", lines, str, y_range=(0.0, 3.0))))
    assert ["".join(entry.itertext()) for entry in drawing.iter("li")] == [name, "a ↑"]
    assert not [text for text in drawing.iter("text") if text.get("class") == "label"]
