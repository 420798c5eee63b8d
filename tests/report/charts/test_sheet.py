from io import BytesIO
from xml.etree import ElementTree

from PIL import Image

from fedcmp.report.charts.sheet import GROUND, Sheet, charts_png, light, mark, short
from fedcmp.report.palette import CSS_COLOURS, CSS_VARIABLES, MARKERS

EVIL = "<script>alert('x')</script>&$\\frac$ 病院"


class Square:
    """A chart that fills its box with one colour."""

    def describe(self):
        return EVIL

    def height(self, width):
        return width / 2

    def draw(self, sheet, box):
        left, bottom, width, height = box
        axes = sheet.axes(left, bottom, width, height)
        axes.set_xlim(0, 1)
        axes.axvspan(0, 1, color=light("var(--m2)"))


def drawn():
    sheet = Sheet(300, 200)
    axes = sheet.axes(40, 40, 200, 120)
    (points,) = axes.plot([1, 2, 3], [0.9, 0.8, 0.7], color=light("var(--m1)"), **mark("square"))
    sheet.tips(points, EVIL, ["one", EVIL, "three"])
    sheet.name(sheet.text(250, 100, EVIL), "label")
    return sheet


def test_the_same_sheet_gives_the_same_bytes_without_a_date(recwarn):
    first, second = drawn().png(), drawn().png()
    assert first == second
    assert Image.open(BytesIO(first)).info.keys() <= {"dpi"}
    assert drawn().svg("k", "a") == drawn().svg("k", "a")
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]


def test_text_stays_text_and_never_becomes_markup_or_a_formula():
    root = ElementTree.fromstring(drawn().svg("k", EVIL))
    assert root.get("aria-label") == EVIL
    assert root.find(".//script") is None
    (label,) = [group for group in root.iter("g") if group.get("class") == "label"]
    assert label.find("text").text == EVIL
    assert "font-family" not in label.find("text").get("style")


def test_each_marker_has_its_own_hover_value():
    root = ElementTree.fromstring(drawn().svg("k", ""))
    (points,) = [group for group in root.iter("g") if group.get("class") == "tips"]
    assert [use.find("title").text for use in points.iter("use")] == ["one", EVIL, "three"]


def test_colours_of_an_svg_are_the_pages_variables():
    markup = drawn().svg("k", "")
    assert "var(--m1)" in markup
    assert "var(--soft)" in markup
    assert not [colour for colour in CSS_VARIABLES if colour in markup]


def test_two_drawings_of_a_page_share_no_name():
    names = [
        {element.get("id") for element in ElementTree.fromstring(drawn().svg(key, "")).iter() if element.get("id")}
        for key in ("a", "b")
    ]
    assert names[0]
    assert not names[0] & names[1]


def test_no_two_variables_have_one_value():
    assert len(CSS_VARIABLES) == len(CSS_COLOURS)
    assert light(GROUND) == "#ffffff"


def test_charts_of_a_file_stand_in_rows_under_their_titles():
    one, three = (Image.open(BytesIO(charts_png([(EVIL, Square())] * count, 200.0, 2))) for count in (1, 3))
    assert one.width < three.width < 2 * one.width
    assert three.height > 1.5 * one.height
    colours = {colour: count for count, colour in three.convert("RGB").getcolors(maxcolors=1 << 24)}
    assert colours[213, 94, 0] > 0.95 * 3 * (400 * 200)


def test_every_marker_has_a_drawing_of_its_own():
    assert len({mark(marker)["marker"] for marker in MARKERS}) == len(MARKERS)
    assert short("a" * 30) == "a" * 23 + "…"
