import re

import pytest

from fedcmp.report.study.latex import escape_latex, table_to_latex
from fedcmp.report.tables import Cell, Column, Row, Table


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("50 % & a_b #1 $x$", r"50 \% \& a\_b \#1 \$x\$"),
        (r"\input{secret}~^", r"\textbackslash{}input\{secret\}\textasciitilde{}\textasciicircum{}"),
        ("p < 0.001 > 0", r"p $<$ 0.001 $>$ 0"),
        ("−0.4 ± 0.1 – x — †", r"$-$0.4 $\pm$ 0.1 -- x --- $\dagger$"),
        ("16\u202f000", r"16\,000"),
        ("two\nlines", "two lines"),
        ("Zürich 病院", "Zürich ??"),
    ],
)
def test_text_is_escaped(text, written):
    assert escape_latex(text) == written


@pytest.fixture
def written():
    columns = (Column("Method", numeric=False), Column("Loss", "nats"), Column("p_1"))
    rows = (
        Row((Cell("A & B", bold=True), Cell("0.4", 0.4, "± 0.1", bold=True), Cell("best"))),
        Row((Cell("C"), Cell("0.5", 0.5, second=True), Cell("✓"))),
        Row((Cell("pooled"), Cell("0.3"), Cell("–")), reference=True),
    )
    table = Table(columns, rows, "caption", ("100 % sure.",), apart=True)
    return table_to_latex(table, title="Results & more", label="image_20/x")


def test_a_table_has_its_rules_marks_and_notes(written):
    lines = written.splitlines()
    assert r"\begin{tabular}{lrr}" in lines
    assert r"Method & Loss & p\_1 \\" in lines
    assert r" & {\scriptsize nats} &  \\" in lines
    assert r"\textbf{A \& B} & \textbf{0.4} {\scriptsize $\pm$ 0.1} & best \\" in lines
    assert r"C & \underline{0.5} & $\surd$ \\" in lines
    assert [line for line in lines if line.endswith("rule")] == [r"\toprule", r"\midrule", r"\midrule", r"\bottomrule"]
    assert lines.index(r"pooled & 0.3 & -- \\") > lines.index(r"\midrule", lines.index(r"\midrule") + 1)
    assert r"\caption{Results \& more}" in lines
    assert r"\label{tab:image-20-x}" in lines
    assert r"100 \% sure." in written


def test_braces_and_environments_close(written):
    bare = re.sub(r"\\[{}]", "", written)
    assert bare.count("{") == bare.count("}")
    assert re.findall(r"\\begin\{(\S+?)\}", written) == ["table*", "tabular"]
    assert re.findall(r"\\end\{(\S+?)\}", written) == ["tabular", "table*"]


def test_every_row_has_as_many_cells_as_columns(written):
    body = written.split(r"\toprule")[1].split(r"\bottomrule")[0]
    for line in body.splitlines():
        if line.endswith(r"\\"):
            assert len(re.findall(r"(?<!\\)&", line)) == 2
