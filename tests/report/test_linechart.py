import re
from xml.etree import ElementTree

import pytest

from fedcmp.report.linechart import Level, Line, LineChart, describe, line_chart
from fedcmp.report.palette import MARKERS


def three_decimals(value):
    return f"{value:.3f}"


def chart(**more):
    lines = (
        Line("fedavg", "var(--m1)", "square", ((1, 1.0), (2, 0.9), (3, 0.8))),
        Line("fed<cmp> & co", "var(--m2)", "triangle", ((1, 1.1), (2, 0.85), (3, 0.798)), strong=True),
    )
    return LineChart(**{"key": "k", "title": "Loss", "lines": lines, "write": three_decimals, **more})


def parsed(drawing):
    return ElementTree.fromstring(drawing)


def points_of(path):
    return [tuple(map(float, pair.split())) for pair in path.get("d")[1:].split("L")]


def test_lines_end_in_their_names_and_values_not_over_each_other():
    labels = [text for text in parsed(line_chart(chart(), 400, 300)).iter("text") if text.get("class") == "label"]
    assert [text.text for text in labels] == ["fedavg 0.800", "fed<cmp> & co 0.798"]
    heights = [float(text.get("y")) for text in labels]
    assert heights[1] - heights[0] == pytest.approx(14.0, abs=0.2)


def test_points_lie_where_the_axis_says():
    root = parsed(line_chart(chart(), 400, 300))
    texts = {text.text: float(text.get("y")) - 4 for text in root.iter("text") if text.get("class") == "tick"}
    path = next(path for path in root.iter("path") if path.get("class") == "line")
    heights = dict(zip((1.0, 0.9, 0.8), (y for _, y in points_of(path)), strict=True))
    written = {float(text): height for text, height in texts.items() if "." in text}
    assert written[1.0] == pytest.approx(heights[1.0], abs=0.2)
    assert written[0.9] == pytest.approx(heights[0.9], abs=0.2)


def test_everything_lies_inside_the_picture():
    root = parsed(line_chart(chart(), 400, 300))
    width, height = map(float, root.get("viewBox").split()[2:])
    for text in root.iter("text"):
        length = 6.0 * len(text.text)
        start = float(text.get("x")) - {"end": length, "middle": length / 2}.get(text.get("text-anchor"), 0)
        assert start >= 0
        assert start + length <= width
        assert 0 < float(text.get("y")) <= height


def test_levels_are_drawn_at_their_height_and_named():
    root = parsed(line_chart(chart(levels=(Level(0.9, "var(--reference)", "blind 0.900"),)), 400, 300))
    level = next(path for path in root.iter("path") if path.get("class") == "level")
    line = next(path for path in root.iter("path") if path.get("class") == "line")
    assert float(re.findall(r"[\d.]+", level.get("d"))[1]) == pytest.approx(points_of(line)[1][1])
    assert any(text.text == "blind 0.900" for text in root.iter("text"))


def test_a_line_far_above_is_cut_and_says_so():
    far = Line("local", "var(--m4)", "cross", ((1, 9.0), (3, 8.0)), free=True)
    cut = chart(lines=(*chart().lines, far))
    assert cut.cut == ("local",)
    assert cut.range[1] < 2
    assert any(text.text == "local 8.000 ↑" for text in parsed(line_chart(cut, 400, 300)).iter("text"))


def test_many_labels_make_the_picture_taller():
    lines = tuple(Line(f"method {k}", "var(--m1)", "circle", ((1, 1.0), (2, 0.9))) for k in range(30))
    assert float(parsed(line_chart(chart(lines=lines), 400, 200)).get("viewBox").split()[3]) >= 30 * 14


def test_long_names_are_shortened_in_the_label_only():
    lines = (Line("a" * 40, "var(--m1)", "circle", ((1, 1.0),)),)
    root = parsed(line_chart(chart(lines=lines, label_length=13, values_in_labels=False), 400, 200))
    assert [text.text for text in root.iter("text") if text.get("class") == "label"] == ["a" * 12 + "…"]
    assert "a" * 40 in root.get("aria-label")


def test_the_alternative_text_tells_first_and_last_values():
    told = describe(chart(levels=(Level(0.9, "", "blind 0.900"),)))
    assert told.startswith("Loss. fedavg: 1.000 at round 1, 0.800 at round 3; ")
    assert told.endswith("blind 0.900.")


@pytest.mark.parametrize("marker", MARKERS)
def test_every_marker_draws_and_the_bytes_are_the_same_twice(marker):
    lines = (Line("m", "var(--m1)", marker, ((1, 1.0), (2, 0.5)), band=((1, 0.9, 1.1), (2, 0.4, 0.6))),)
    assert line_chart(chart(lines=lines), 300, 200) == line_chart(chart(lines=lines), 300, 200)
    assert parsed(line_chart(chart(lines=lines), 300, 200)).find(".//path[@class='band']") is not None


def test_markers_differ():
    def marks(marker):
        return line_chart(chart(lines=(Line("m", "var(--m1)", marker, ((1, 1.0),)),)), 300, 200)

    assert len({marks(marker) for marker in MARKERS}) == len(MARKERS)
