"""The real benchmarks in a run's report, beside the paper's figures."""

import json

import pytest

from fedcmp.report import load_runs
from fedcmp.report.benchmarks import Benchmarked, BenchmarkRow, Results, benchmarks_table, read_results, table_of
from fedcmp.report.comparison import Comparison
from fedcmp.report.page import render_page
from fedcmp.report.writing import render_markdown

from .fakes import write_run


def result(folder, name, score, **more):
    folder.mkdir(parents=True, exist_ok=True)
    content = {"benchmark": name, "score": score, "asked": 100, "items": 100, "limit": None, "lmms_eval": "0.7.3"}
    (folder / f"{name}.json").write_text(json.dumps(content | {"prompts": None, "judge": None} | more))


@pytest.fixture
def folder(tmp_path):
    for method in ("fedavg", "shared-basis", "local"):
        for seed in (0, 1):
            write_run(tmp_path / f"{method}-{seed}", method, seed=seed, rounds=2, clients=2, samples=False)
    for seed in (0, 1):
        result(tmp_path / f"fedavg-{seed}" / "benchmarks", "pope", 60 + 10 * seed)
        result(tmp_path / f"shared-basis-{seed}" / "benchmarks", "pope", 80.0)
    judge = {"model": "judge-a", "prompt_sha256": "0123456789abcdef"}
    result(tmp_path / "shared-basis-0" / "benchmarks", "mm-vet", 30.0, limit=4, asked=4, judge=judge)
    for client in (0, 1):
        result(tmp_path / "local-0" / "benchmarks" / f"client-{client}", "pope", 40.0 + client)
    return tmp_path


def rows(table):
    return {row.cells[0].text: [cell.plain for cell in row.cells[1:]] for row in table.rows}


def test_methods_and_the_papers_rows(folder):
    table = benchmarks_table(Comparison.of(load_runs(folder)))
    found = rows(table)
    assert found["fedavg"] == ["–", "–", "–", "–", "65.0 ± 7.1", "–", "–"]
    assert found["shared-basis"] == ["30.0", "–", "–", "–", "80.0 ± 0.0", "–", "–"]
    assert found["local (each client alone)"][4] == "40.5 ± 0.7"
    paper = found["Fed-CMP, the paper's figures"]
    assert [cell.replace("\u202f", "") for cell in paper] == ["32.5", "32.7", "30.5", "46.6", "74.5", "1143.2", "33.0"]
    bold = [(row.cells[0].text, at) for row in table.rows for at, cell in enumerate(row.cells) if cell.bold]
    assert bold == [("shared-basis", 5)]  # none where one method alone was asked, none of the paper's


def test_what_has_to_be_said_is_said(folder):
    notes = " ".join(benchmarks_table(Comparison.of(load_runs(folder))).notes)
    assert "Asked by lmms-eval 0.7.3; rows: MM-Vet 4, POPE 100." in notes
    assert "Not asked of any method: MMBench, SEED, LLaVA-Bench, MME, MMVP." in notes
    assert "Only the first rows were asked of MM-Vet" in notes
    assert "MM-Vet: judged by “judge-a” (prompt 0123456789ab)." in notes
    assert "Without ± there was one seed only" in notes  # MM-Vet
    assert "Asked before" not in notes
    assert "its table 1, without seeds" in notes  # the fakes' scenario is image
    assert "± is the standard deviation over seeds" in notes


def test_a_limit_that_cut_nothing_is_no_trial(folder):
    result(folder / "shared-basis-0" / "benchmarks", "mm-vet", 30.0, limit=500)
    assert "a trial" not in " ".join(benchmarks_table(Comparison.of(load_runs(folder))).notes)


def test_empty_answers_are_told_and_none_is_best_where_all_are_alike(folder):
    for method in ("fedavg", "shared-basis"):
        result(folder / f"{method}-0" / "benchmarks", "mme", 0.0, empty=len(method), asked=9)
    table = benchmarks_table(Comparison.of(load_runs(folder)))
    assert "Empty answers, which count as wrong ones, of the model with most of them: MME 12 of 9." in table.notes
    assert not any(row.cells[6].bold for row in table.rows)


def test_a_run_that_has_gone_on_since_is_told(folder):
    result(folder / "shared-basis-1" / "benchmarks", "pope", 80.0, round=1)
    notes = benchmarks_table(Comparison.of(load_runs(folder))).notes
    assert (
        notes[0]
        == "Asked before the training had ended: shared-basis after round 1 of the 2 that are trained. Ask again."
    )


def test_figures_of_another_scenario_are_named_as_such():
    runs = [Results(({"pope": Benchmarked("pope", score)},)) for score in (60.0, 70.0)]
    (own, *_), (other, *paper) = (
        table_of([BenchmarkRow("x", runs)], name, caption="x").rows for name in ("text", "iid")
    )
    assert own.cells[5].plain == other.cells[5].plain == "65.0 ± 7.1"
    assert [row.cells[0].text for row in paper][-1] == "Fed-CMP, the paper's figures, image clusters"


def test_it_is_in_the_page_and_in_markdown_only_where_something_was_asked(folder, demo):
    runs = load_runs(folder)
    assert "The paper's benchmarks, by lmms-eval" in render_markdown(runs)
    assert 'id="benchmarks"' in render_page(Comparison.of(runs), title="x")
    assert "Fed-CMP, the paper's figures" not in render_markdown(load_runs(demo))


def test_torn_and_foreign_files_are_passed_over(tmp_path):
    result(tmp_path, "pope", 50.0)
    (tmp_path / "mme.json").write_text('{"score": 5')
    (tmp_path / "seed.json").write_text("[]")
    (tmp_path / "mmvp.json").write_text('{"benchmark": "mmvp", "score": "high"}')
    (model,) = read_results(tmp_path).models
    assert list(model) == ["pope"]
    assert read_results(tmp_path / "none").models == ()


def test_items_of_the_embedded_world_never_look_like_the_benchmark(folder):
    for method in ("fedavg", "shared-basis"):
        for seed in (0, 1):
            result(folder / f"{method}-{seed}" / "benchmarks", "pope", 60.0 + seed, toy=True)
    for place in (folder / "shared-basis-0" / "benchmarks" / "mm-vet.json", *folder.glob("local-*/benchmarks/*/*")):
        place.unlink()
    table = benchmarks_table(Comparison.of(load_runs(folder)))
    assert [column.title for column in table.columns][5] == "pope-world"
    assert not any("the paper's figures" in row.cells[0].text for row in table.rows)
    assert any("items of the embedded toy world in the benchmark's format" in note for note in table.notes)
