from xml.etree import ElementTree

from fedcmp.report.tables import Cell, Column, Row, Table, escape_markdown, table_to_html, table_to_markdown

EVIL = '<script>alert("x")</script>|`*_\n[y](z)'


def example():
    columns = (Column("Method", numeric=False), Column("Loss", "nats", colour="var(--m1)"), Column("Empty"))
    rows = (
        Row((Cell(EVIL, colour="var(--m1)"), Cell("0.759", 0.759, "± 0.004", True, bar=0.5, tick=0.75), Cell("–"))),
        Row((Cell("fedavg"), Cell("0.796", 0.796, shade=0.3), Cell("–")), best=True),
    )
    return Table(columns, rows, caption="A & B", notes=("<note>",))


def test_html_is_well_formed_and_escapes_everything():
    markup = table_to_html(example())
    root = ElementTree.fromstring(f"<root>{markup}</root>")
    assert root.find(".//script") is None
    assert root.findall(".//tbody/tr/th")[0].findall("span")[0].tail == EVIL
    assert root.find(".//caption").text == "A & B"


def test_numbers_sort_by_value_and_bars_have_their_length():
    root = ElementTree.fromstring(f"<root>{table_to_html(example())}</root>")
    cell = root.findall(".//tbody/tr")[0].findall("td")[0]
    assert cell.get("data-value") == "0.759"
    assert [mark.get("style") for mark in cell.iter("i")] == ["width:50.0%;background:var(--m1)", "left:75.0%"]
    assert root.findall(".//tbody/tr")[1].findall("td")[0].get("style") == "--amount:0.300"
    assert len(root.findall(".//th/button")) == 3


def test_a_table_need_not_sort():
    assert "<button" not in table_to_html(example(), sortable=False)


def test_columns_without_a_value_are_left_out():
    table = example().without_empty_columns()
    assert table.headers == ["Method", "Loss (nats)"]
    assert table.text_rows()[0][1] == "0.759 ± 0.004"
    assert table.rows[1].best


def test_markdown_keeps_its_columns_whatever_the_text():
    lines = table_to_markdown(example()).splitlines()
    assert lines[1] == "| --- | ---: | ---: |"
    assert lines[2].replace("\\|", "").count("|") == 4
    assert "**0.759 ± 0.004**" in lines[2]
    assert "\\<script\\>" in lines[2]


def test_markdown_escapes_are_one_line():
    assert escape_markdown("a\nb_c") == "a b\\_c"
