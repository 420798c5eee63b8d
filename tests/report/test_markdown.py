from fedcmp.report.markdown import phrases_to_markdown, render_document
from fedcmp.report.tables import Cell, Column, Row, Table
from fedcmp.report.verdict import Phrase

EVIL = "<b>*x*|"


def test_a_document_holds_its_parts_in_order_and_escapes_them():
    table = Table((Column("Method", numeric=False),), (Row((Cell(EVIL),)),), notes=(EVIL,))
    text = render_document(
        title=EVIL,
        verdict=[[Phrase("first", True)], [Phrase("second")]],
        facts=[("Seeds", "1"), ("Runs", "2")],
        warnings=["beware"],
        notes=["how to read"],
        tables=[("heading", table)],
    )
    parts = ["# ", "**first**", "- second", "What ran: seeds 1; runs 2.", "> beware", "- how to read", "## heading"]
    places = [text.index(part) for part in (*parts, "## Citation", "arXiv 2603.26786")]
    assert places == sorted(places)
    assert EVIL not in text
    assert text.count("\\<b\\>\\*x\\*\\|") == 3
    assert text.endswith(".\n")


def test_what_is_not_there_leaves_no_line():
    text = render_document(title="t", verdict=[[Phrase("a")]], facts=[], warnings=[], tables=[])
    assert text.split("\n\n")[:3] == ["# t", "a", "## Citation"]


def test_phrases_keep_the_spaces_between_them():
    said = [Phrase("a", True), Phrase(" is "), Phrase("b_c", True), Phrase(".")]
    assert phrases_to_markdown(said) == "**a** is **b\\_c**."
