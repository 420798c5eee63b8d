from xml.etree import ElementTree

from fedcmp.report.panels import Panel
from fedcmp.report.shell import definitions, multiples, next_steps, phrases_html, render_shell, section
from fedcmp.report.verdict import Phrase

EVIL = "<script>alert('x')</script>&\""


def parse(markup):
    return ElementTree.fromstring(f"<root>{markup}</root>")


def test_pieces_escape_their_text():
    pieces = [
        phrases_html([Phrase(EVIL, True), Phrase(EVIL)]),
        definitions([(EVIL, EVIL)]),
        next_steps([(EVIL, "result", EVIL)]),
        section("result", EVIL, ""),
    ]
    for piece in pieces:
        root = parse(piece)
        assert root.find(".//script") is None
        assert EVIL in "".join(root.itertext())


def test_beyond_four_small_charts_the_rest_is_folded():
    panels = [Panel(str(index), "", "") for index in range(6)]
    root = parse(multiples(panels))
    assert len(root.findall("div/figure")) == 4
    assert root.find("details/summary").text == "2 more charts: 4, 5"
    assert len(root.findall("details/div/figure")) == 2
    assert parse(multiples(panels[:5])).find("details/summary").text == "One more chart: 4"
    assert multiples([]) == ""
    assert next_steps([]) == ""


def test_the_frame_holds_its_parts_in_order():
    parts = {name: f"<i>{name}</i>" for name in ("verdict", "sentences", "picture", "table", "pointers", "body")}
    page = render_shell(title=EVIL, links=[("result", EVIL)], warnings=[EVIL], facts=[("a", "b")], **parts)
    places = [page.index(parts[name]) for name in ("verdict", "sentences", "picture", "table", "pointers", "body")]
    assert places == sorted(places)
    assert page.count("<script>") == 1
