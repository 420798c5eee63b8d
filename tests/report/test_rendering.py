import re
from xml.etree import ElementTree

from fedcmp.report.charts.lines import Line, LineChart
from fedcmp.report.panels import Panel
from fedcmp.report.rendering import Pointer, Section, render, sections_of
from fedcmp.report.tables import Cell, Column, Row, Table
from fedcmp.report.verdict import Phrase

from .fakes import render_part

EVIL = "<script>alert('x')</script>&\""


def parse(markup):
    return ElementTree.fromstring(f"<root>{markup}</root>")


def panel(number):
    chart = LineChart("Loss", (Line("a", "var(--m1)", "circle", ((1.0, 1.0), (2.0, 2.0))),), str)
    return Panel(f"k{number}", str(number), "", chart)


def page(**more):
    table = Table((Column("Method", numeric=False),), (Row((Cell(EVIL),)),))
    parts = {
        "title": EVIL,
        "sections": [Section("data", EVIL, EVIL, table)],
        "pointers": [Pointer(EVIL, "data"), Pointer("nowhere", "absent")],
        "warnings": [EVIL],
        "verdict": [[Phrase(EVIL, True)], [Phrase(EVIL)]],
        "facts": [(EVIL, EVIL)],
        "figure": None,
        "methods": [(EVIL, "var(--m1)", EVIL), ("b", "var(--m2)", "■")],
        "toy": EVIL,
        "table": table,
    }
    return render("run.html.j2", **{**parts, **more})


def test_every_text_of_a_page_is_escaped():
    written = page()
    assert written.count("<script>") == 1
    assert EVIL not in written
    assert written.count("&lt;script&gt;alert(") == 17


def test_pieces_escape_their_text():
    for name, given in (("phrases", [Phrase(EVIL, True), Phrase(EVIL)]), ("definitions", [(EVIL, EVIL)])):
        root = parse(render_part(name, given))
        assert root.find(".//script") is None
        assert EVIL in "".join(root.itertext())


def test_beyond_four_small_charts_the_rest_is_folded():
    panels = [panel(number) for number in range(6)]
    root = parse(render_part("multiples", panels))
    assert len(root.findall("div/figure")) == 4
    assert root.find("details/summary").text == "2 more charts: 4, 5"
    assert len(root.findall("details/div/figure")) == 2
    assert parse(render_part("multiples", panels[:5])).find("details/summary").text == "One more chart: 4"
    assert render_part("multiples", []).strip() == ""


def test_a_symbol_is_set_as_in_a_formula():
    assert render_part("symbol", "d_t") == "<i>d<sub>t</sub></i>"
    assert render_part("symbol", "d") == "<i>d</i>"


def test_the_first_screen_holds_its_parts_in_order():
    written = page(
        verdict=[[Phrase("the verdict")], [Phrase("a sentence")]],
        facts=[("a fact", "b")],
        pointers=[Pointer("c", "data")],
    )
    parts = ("the verdict", "a sentence", "a fact", "<table>", "Where to look next", '<section id="data">')
    places = [written.index(part) for part in parts]
    assert places == sorted(places)


def test_pointers_to_a_section_that_is_not_there_are_left_out():
    assert "nowhere" not in page()
    assert "Where to look next" not in page(pointers=[Pointer("nowhere", "absent")])


def test_sections_without_anything_to_show_are_left_out():
    found = sections_of({"a": ("A", "a"), "b": ("B", "b"), "c": ("C", "c")}, {"c": [1], "a": [], "b": None})
    assert found == [Section("c", "C", "c", [1])]
    assert re.findall(r'href="#(\w+)"', page())[1:3] == ["result", "data"]


def test_methods_can_be_hidden_where_there_are_several():
    several = page(methods=[("a", "var(--m1)", "▲"), ("b", "var(--m2)", "■")])
    assert re.findall(r'<button type="button" aria-pressed="true" data-method="(\w)">', several) == ["a", "b"]
    assert "data-method=" not in page(methods=[("a", "var(--m1)", "▲")]).partition("<script>")[0]


def test_a_page_loads_itself_anew_only_while_a_run_works():
    assert 'id="pause" aria-pressed="false" data-seconds="5"' in page(refresh=5)
    assert 'id="pause"' not in page()


def test_the_toy_world_is_named_where_it_is_one():
    assert '<p class="toy">Toy</p>' in page(toy="Toy")
    assert 'class="toy"' not in page(toy="")
