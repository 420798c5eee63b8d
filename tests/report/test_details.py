import json

import pytest

from fedcmp.report import load_runs
from fedcmp.report.comparison import Comparison
from fedcmp.report.details import differences_table, groups_table, holdings_table, kinds_table, pairs_table
from fedcmp.report.methods import MeanSpread
from fedcmp.report.page import render_page
from fedcmp.report.writing import render_markdown

from .fakes import GROUPS, KINDS, text_rows, write_run


def test_kinds_come_a_row_each_with_the_blind_llm_as_tick(demo_comparison):
    table = kinds_table(demo_comparison)
    assert [row.cells[0].text for row in table.rows] == list(KINDS)
    assert [column.title for column in table.columns] == [
        "Question kind",
        "shared-basis",
        "fedavg",
        "centralized",
        "local",
        "blind",
    ]
    fedcmp, blind = table.rows[0].cells[1], table.rows[0].cells[5]
    assert fedcmp.bar == fedcmp.value
    assert fedcmp.tick == pytest.approx(blind.value)


def test_the_best_federated_method_of_a_row_is_bold(demo_comparison):
    for table, better in ((kinds_table(demo_comparison), max), (groups_table(demo_comparison), min)):
        for row in table.rows:
            federated = row.cells[1:3]
            winner = better(federated, key=lambda cell: cell.value)
            assert [cell.bold for cell in row.cells[1:]] == [cell is winner for cell in row.cells[1:]]


def test_group_bars_are_shares_of_the_largest_loss(demo_comparison):
    table = groups_table(demo_comparison)
    assert {row.cells[0].text for row in table.rows} == set(GROUPS)
    bars = [cell.bar for row in table.rows for cell in row.cells[1:]]
    assert max(bars) == 1.0
    assert min(bars) > 0


def test_equal_values_share_the_bold_and_nothing_is_bold_where_all_are_equal(tmp_path):
    for method, style in (("a", 0.4), ("b", 0.40004), ("c", 0.2)):

        def edit(line, method=method, style=style):
            loss = {"caption_loss": 0.6 if method == "a" else 0.8} if line.get("model") == "global" else {}
            return {**line, **loss, "question_accuracy_by_kind": {"count": 0.5, "style": style}}

        write_run(tmp_path / method, method, rounds=1, change=edit, samples=False)
    table = kinds_table(Comparison.of(load_runs(tmp_path)))
    titles = [column.title for column in table.columns]
    bold = {row.cells[0].text: {titles[at] for at, cell in enumerate(row.cells) if cell.bold} for row in table.rows}
    assert bold == {"count": set(), "style": {"a", "b"}}


@pytest.mark.parametrize(("key", "title"), [("wrong_captions", "Wrong captions"), ("missing_pairs", "Missing")])
def test_wrong_captions_and_missing_pairs_are_told_where_there_are_any(tmp_path, demo_comparison, key, title):
    def corrupt(line):
        return {**line, key: 30} if line["kind"] == "data" and line["client"] == 1 else line

    write_run(tmp_path / "fedavg", "fedavg", rounds=1, change=corrupt, samples=False)
    table = holdings_table(Comparison.of(load_runs(tmp_path)))
    place = table.headers.index(title)
    assert [row.cells[place].text for row in table.rows] == ["–", "30", "–", "–", "–"]
    assert title not in holdings_table(demo_comparison).headers


def test_holdings_tint_by_the_groups_share_of_a_client(demo_comparison):
    table = holdings_table(demo_comparison)
    first = {column.title: cell for column, cell in zip(table.columns, table.rows[0].cells, strict=True)}
    assert first["shapes"].shade == pytest.approx(1800 / 4500)
    assert table.rows[3].cells[-1].plain == "2 (truncated 2)"
    assert table.notes[0].startswith("19\u202f200 pairs in all")


PAIRS = {"kind": "pairs", "name": "north", "read": 80, "train": 60, "held_out": 10, "judged": 8}
PAIRS |= {"refused": {"missing": 3, "truncated": 1}, "unused": {"text only": 6}, "ignored": {}, "captions_cut": 9}


def test_where_every_pair_went_is_on_the_page(tmp_path, demo_comparison):
    assert pairs_table(demo_comparison) is None  # runs of before have no such records
    folder = tmp_path / "fedavg"
    write_run(folder, "fedavg", rounds=1, samples=False)
    lines = [PAIRS, PAIRS | {"name": "<south>", "refused": {}, "unused": {}, "captions_cut": 0, "train": 70}]
    with (folder / "metrics.jsonl").open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
    comparison = Comparison.of(load_runs(tmp_path))
    table = pairs_table(comparison)
    assert text_rows(table) == [
        ["north", "80", "60", "10 (8 of them judged)", "4 (missing 3, truncated 1)", "6 (text only 6)", "9"],
        ["<south>", "80", "70", "10 (8 of them judged)", "–", "–", "–"],
    ]
    assert table.notes[1] == "Captions that were longer than data.max_caption_tokens, and cut there: 9."
    page, markdown = render_page(comparison, title="t"), render_markdown(load_runs(tmp_path))
    assert "Where the pairs went" in page
    assert "&lt;south&gt;" in page
    assert "truncated 1" in markdown


def test_what_differs_between_recipes_is_listed(demo_comparison):
    table = differences_table(demo_comparison)
    assert [[cell.plain for cell in row.cells] for row in table.rows] == [
        ["aggregation.rank", "16", "full", "full", "full"]
    ]


def test_a_single_run_has_nothing_to_differ_from(demo):
    assert differences_table(Comparison.of(load_runs(demo / "fedavg"))) is None


def test_without_questions_groups_or_holdings_there_are_no_tables(tmp_path):
    def bare(line):
        kept = {key: value for key, value in line.items() if key not in ("group_losses", "question_accuracy_by_kind")}
        return None if line["kind"] == "data" else kept

    write_run(tmp_path / "fedavg", "fedavg", rounds=1, change=bare, samples=False)
    comparison = Comparison.of(load_runs(tmp_path))
    assert (kinds_table(comparison), groups_table(comparison), holdings_table(comparison)) == (None, None, None)


def test_a_diverged_group_shows_no_bar(tmp_path):
    def diverge(line):
        if line.get("model") != "global":
            return line
        return {**line, "group_losses": {**line["group_losses"], "chart": float("inf")}}

    write_run(tmp_path / "fedavg", "fedavg", rounds=1, change=diverge, samples=False)
    table = groups_table(Comparison.of(load_runs(tmp_path)))
    cell = next(row.cells[1] for row in table.rows if row.cells[0].text == "chart")
    assert (cell.text, cell.bar) == ("diverged", None)
    assert MeanSpread.of([1.0], "seeds").mean == 1.0
