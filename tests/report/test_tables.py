from xml.etree import ElementTree

from fedcmp.report.tables import Cell, Column, Row, Table, escape_markdown, table_to_markdown

from .fakes import render_part, text_rows

EVIL = '<script>alert("x")</script>|`*_\n[y](z)'


def example():
    columns = (Column("Method", numeric=False), Column("Loss", "nats", colour="var(--m1)"), Column("Empty"))
    rows = (
        Row((Cell(EVIL, colour="var(--m1)"), Cell("0.759", 0.759, "± 0.004", True, bar=0.5, tick=0.75), Cell("–"))),
        Row((Cell("fedavg"), Cell("0.796", 0.796, shade=0.3), Cell("–")), best=True),
    )
    return Table(columns, rows, caption="A & B", notes=("<note>",))


def test_html_is_well_formed_and_escapes_everything():
    markup = render_part("table", example())
    root = ElementTree.fromstring(f"<root>{markup}</root>")
    assert root.find(".//script") is None
    assert root.findall(".//tbody/tr/th")[0].findall("span")[0].tail == EVIL
    assert root.find(".//caption").text == "A & B"


def test_numbers_sort_by_value_and_bars_have_their_length():
    root = ElementTree.fromstring(f"<root>{render_part('table', example())}</root>")
    cell = root.findall(".//tbody/tr")[0].findall("td")[0]
    assert cell.get("data-value") == "0.759"
    assert [mark.get("style") for mark in cell.iter("i")] == ["width:50.0%;background:var(--m1)", "left:75.0%"]
    assert root.findall(".//tbody/tr")[1].findall("td")[0].get("style") == "--amount:0.300"
    assert len(root.findall(".//th/button")) == 3


def test_a_table_need_not_sort():
    assert "<button" not in render_part("table", example(), sortable=False)


def test_columns_without_a_value_are_left_out():
    table = example().without_empty_columns()
    assert table.headers == ["Method", "Loss (nats)"]
    assert text_rows(table)[0][1] == "0.759 ± 0.004"
    assert table.rows[1].best


def test_markdown_keeps_its_columns_whatever_the_text():
    lines = table_to_markdown(example()).splitlines()
    assert lines[1] == "| --- | ---: | ---: |"
    assert lines[2].replace("\\|", "").count("|") == 4
    assert "**0.759 ± 0.004**" in lines[2]
    assert "\\<script\\>" in lines[2]


def test_markdown_escapes_are_one_line():
    assert escape_markdown("a\nb_c") == "a b\\_c"


def ranking():
    columns = (Column("Method", numeric=False), Column("Loss"), Column("Dull", quiet=True))
    rows = (
        Row((Cell("pooled"), Cell("0.3", 0.3), Cell("1")), reference=True),
        Row((Cell("ours"), Cell("0.4", 0.4, "± 0.1", bold=True), Cell("2")), best=True),
        Row((Cell("next"), Cell("0.5", 0.5, second=True), Cell("3"))),
    )
    return Table(columns, rows, apart=True, stacked=True)


def test_reference_rows_apart_take_no_part_in_the_sorting():
    root = ElementTree.fromstring(f"<root>{render_part('table', ranking())}</root>")
    bodies = root.findall(".//tbody")  # the script sorts the first one
    assert [body.get("class") for body in bodies] == [None, "apart"]
    assert [[row.find("th").text for row in body.findall("tr")] for body in bodies] == [["ours", "next"], ["pooled"]]


def test_the_second_is_underlined_and_details_are_stacked():
    root = ElementTree.fromstring(f"<root>{render_part('table', ranking())}</root>")
    assert root.find(".//table").get("class") == "stacked"
    assert [mark.text for mark in root.findall(".//td/u")] == ["0.5"]
    assert all(detail.get("style") is None for detail in root.iter("span") if detail.get("class") == "detail")
    assert "<ins>0.5</ins>" in table_to_markdown(ranking())


def test_a_quiet_column_is_quiet_from_its_head_down():
    root = ElementTree.fromstring(f"<root>{render_part('table', ranking())}</root>")
    assert [head.get("class") for head in root.findall(".//thead/tr/th")] == ["text", "number", "number quiet"]
    assert [cell.text for cell in root.iter("td") if "quiet" in cell.get("class")] == ["2", "3", "1"]


def test_dress_of_the_table_survives_the_loss_of_columns():
    table = ranking().without_empty_columns()
    assert (table.apart, table.stacked) == (True, True)
