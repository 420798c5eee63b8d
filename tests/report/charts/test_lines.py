import re
from xml.etree import ElementTree

import pytest

from fedcmp.report.charts.lines import Level, Line, LineChart
from fedcmp.report.charts.sheet import chart_svg
from fedcmp.report.palette import MARKERS


def three_decimals(value):
    return f"{value:.3f}"


def chart(**more):
    lines = (
        Line("fedavg", "var(--m1)", "square", ((1, 1.0), (2, 0.9), (3, 0.8))),
        Line("fed<cmp> & co", "var(--m2)", "triangle", ((1, 1.1), (2, 0.85), (3, 0.798)), strong=True),
    )
    return LineChart(**{"title": "Loss", "lines": lines, "write": three_decimals, **more})


def parsed(drawn, width=400):
    return ElementTree.fromstring(chart_svg(drawn, "k", width))


def texts(root, kind):
    return [text for group in root.iter("g") if group.get("class") == kind for text in group.iter("text")]


def paths(root, kind):
    return [path for group in root.iter("g") if group.get("class") == kind for path in group.iter("path")]


def points_of(path):
    return [tuple(map(float, pair.split())) for pair in path.get("d")[1:].split("L")]


def test_lines_end_in_their_names_and_values_not_over_each_other():
    labels = texts(parsed(chart()), "label")
    assert [text.text for text in labels] == ["fedavg 0.800", "fed<cmp> & co 0.798"]
    heights = [float(text.get("y")) for text in labels]
    assert heights[1] - heights[0] == pytest.approx(14.0, abs=0.2)


def test_points_lie_where_the_axis_says():
    root = parsed(chart())
    ticks = {text.text: float(text.get("y")) for text in root.iter("text") if "text-anchor:end" in text.get("style")}
    path = paths(root, "line")[0]
    heights = dict(zip((1.0, 0.9, 0.8), (y for _, y in points_of(path)), strict=True))
    written = {float(text): height for text, height in ticks.items()}
    middle = written[1.0] - heights[1.0]  # of a text's height, which its baseline is below
    assert 2 < middle < 6
    assert written[0.9] - middle == pytest.approx(heights[0.9], abs=0.2)


def test_everything_lies_inside_the_picture():
    root = parsed(chart())
    width, height = map(float, root.get("viewBox").split()[2:])
    for text in root.iter("text"):
        length = 6.0 * len(text.text)
        anchor = re.search("text-anchor:(\\w+)", text.get("style"))
        start = float(text.get("x")) - {"end": length, "middle": length / 2}.get(anchor and anchor[1], 0)
        assert start >= 0
        assert start + length <= width
        assert 0 < float(text.get("y")) <= height


def test_levels_are_drawn_at_their_height_and_named():
    root = parsed(chart(levels=(Level(0.9, "var(--reference)", "blind 0.900"),)))
    level, line = paths(root, "level")[0], paths(root, "line")[0]
    assert points_of(level)[0][1] == pytest.approx(points_of(line)[1][1])
    assert any(text.text == "blind 0.900" for text in root.iter("text"))


def test_a_line_far_above_is_cut_and_says_so():
    far = Line("local", "var(--m4)", "cross", ((1, 9.0), (3, 8.0)), free=True)
    cut = chart(lines=(*chart().lines, far))
    assert cut.cut == ("local",)
    assert cut.range[1] < 2
    assert any(text.text == "local 8.000 ↑" for text in parsed(cut).iter("text"))


def test_many_labels_make_the_picture_taller():
    lines = tuple(Line(f"method {k}", "var(--m1)", "circle", ((1, 1.0), (2, 0.9))) for k in range(30))
    assert float(parsed(chart(lines=lines)).get("viewBox").split()[3]) >= 30 * 14


def test_long_names_are_shortened_in_the_label_only():
    lines = (Line("a" * 40, "var(--m1)", "circle", ((1, 1.0),)),)
    root = parsed(chart(lines=lines, label_length=13, values_in_labels=False))
    assert [text.text for text in texts(root, "label")] == ["a" * 12 + "…"]
    assert "a" * 40 in root.get("aria-label")


def test_the_alternative_text_tells_first_and_last_values():
    told = chart(levels=(Level(0.9, "", "blind 0.900"),)).describe()
    assert told.startswith("Loss. fedavg: 1.000 at round 1, 0.800 at round 3; ")
    assert told.endswith("blind 0.900.")


@pytest.mark.parametrize("marker", MARKERS)
def test_every_marker_draws_and_the_bytes_are_the_same_twice(marker):
    lines = (Line("m", "var(--m1)", marker, ((1, 1.0), (2, 0.5)), band=((1, 0.9, 1.1), (2, 0.4, 0.6))),)
    assert chart_svg(chart(lines=lines), "k", 300) == chart_svg(chart(lines=lines), "k", 300)
    assert paths(parsed(chart(lines=lines)), "band")


def test_markers_differ():
    def marks(marker):
        return chart_svg(chart(lines=(Line("m", "var(--m1)", marker, ((1, 1.0),)),)), "k", 300)

    assert len({marks(marker) for marker in MARKERS}) == len(MARKERS)


def test_every_point_of_a_named_line_has_its_value_under_the_pointer():
    far = Line("local", "var(--m4)", "cross", ((1, 9.0), (3, 0.9)), free=True)
    grey = Line("rest", "var(--bundle)", "circle", ((1, 1.0), (3, 0.9)), named=False)
    root = parsed(chart(lines=(*chart().lines, far, grey)))
    told = [title.text for title in root.iter("title")]
    assert told[:3] == ["fedavg, round 1: 1.000", "fedavg, round 2: 0.900", "fedavg, round 3: 0.800"]
    assert "fed<cmp> & co, round 3: 0.798" in told
    assert [text for text in told if text.startswith("local")] == ["local, round 3: 0.900"]  # the other one is cut off
    assert not [text for text in told if text.startswith("rest")]


def test_what_belongs_to_a_method_carries_its_name_in_the_page():
    line = Line("a", "var(--m1)", "circle", ((1, 1.0), (2, 2.0)), ((1, 0.5, 1.5), (2, 1.5, 2.5)), dash=1, owner="a<b")
    root = ElementTree.fromstring(chart_svg(LineChart("t", (line,), str), "k", 400.0))
    owned = [element for element in root.iter() if element.get("data-of") == "a<b"]
    assert {element.get("class") for element in owned} == {"band", "line", "marks", "tips", "label"}
    assert any(
        "stroke-dasharray" in ElementTree.tostring(e, encoding="unicode") for e in owned if e.get("class") == "line"
    )


def test_a_long_line_keeps_some_markers():
    line = Line("a", "var(--m1)", "circle", tuple((x, 1.0) for x in range(200)))
    root = ElementTree.fromstring(chart_svg(LineChart("t", (line,), str), "k", 400.0))
    marks = next(element for element in root.iter() if element.get("class") == "marks")
    assert len([use for use in marks.iter() if use.tag == "use"]) == 25
