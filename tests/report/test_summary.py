import pytest

from fedcmp.report import load_runs, summary_table
from fedcmp.report.comparison import Comparison

from .fakes import BLIND_LOSS, text_rows, write_run


def column(table, start):
    index = next(index for index, header in enumerate(table.headers) if header.startswith(start))
    return [row.cells[index] for row in table.rows]


def test_the_demo_table_has_a_row_a_method_and_its_references(demo):
    table = summary_table(load_runs(demo))
    assert [row[0] for row in text_rows(table)] == [
        "shared-basis",
        "fedavg",
        "centralized (pooled data)",
        "local (each client alone)",
        "blind (same LLM, no image)",
        "untrained projector",
    ]
    assert [row.best for row in table.rows] == [True, False, False, False, False, False]
    assert [row.reference for row in table.rows] == [False, False, True, True, True, True]
    assert table.headers == [
        "Method",
        "Caption loss (nats/token ↓)",
        "Worst-group loss (nats/token ↓)",
        "Question accuracy (% ↑)",
        "fedavg → centralized (% closed ↑)",
        "blind → centralized (% closed ↑)",
        "Sent (MB ↓)",
        "Training (s ↓)",
    ]


def test_the_closed_distances_follow_their_formula(demo):
    table = summary_table(load_runs(demo))
    losses = {row.cells[0].text.split()[0]: row.cells[1].value for row in table.rows}
    fedcmp, fedavg, pooled = losses["shared-basis"], losses["fedavg"], losses["centralized"]
    from_fedavg, from_blind = column(table, "fedavg →"), column(table, "blind →")
    assert from_fedavg[0].value == pytest.approx((fedavg - fedcmp) / (fedavg - pooled))
    assert from_blind[1].value == pytest.approx((BLIND_LOSS - fedavg) / (BLIND_LOSS - pooled))
    assert [cell.text for cell in from_fedavg[1:]] == ["–"] * 5


def test_what_is_closed_counts_from_the_better_of_blind_and_shuffled(tmp_path):
    """FedAvg's loss on shuffled images is below the blind LLM's, that of shared-basis is not."""
    shuffled = {"fedavg": BLIND_LOSS - 0.05, "shared-basis": BLIND_LOSS + 0.4, "centralized": 2.0}
    for method, loss in shuffled.items():
        write_run(
            tmp_path / method,
            method,
            change=lambda line, loss=loss: (
                {**line, "shuffled_loss": loss} if line.get("model") == "global" and line["round"] == 10 else line
            ),
        )
    table = summary_table(load_runs(tmp_path))
    losses = {row.cells[0].text.split()[0]: row.cells[1].value for row in table.rows}
    known = column(table, "Shuffled images (nats/token)")
    assert [cell.value for cell in known] == [shuffled["shared-basis"], shuffled["fedavg"], 2.0, None, None]
    assert not any(cell.bold for cell in known)
    closed, pooled = column(table, "unseeing → centralized"), losses["centralized"]
    assert closed[0].value == pytest.approx((BLIND_LOSS - losses["shared-basis"]) / (BLIND_LOSS - pooled))
    start = shuffled["fedavg"]
    assert closed[1].value == pytest.approx((start - losses["fedavg"]) / (start - pooled))
    assert any(note.startswith("Shuffled images: the caption loss of the same projector") for note in table.notes)


def test_the_best_federated_value_of_each_metric_is_bold(demo):
    table = summary_table(load_runs(demo))
    assert [cell.bold for cell in column(table, "Caption loss")] == [True, False, False, False, False, False]
    assert [cell.bold for cell in column(table, "Question")] == [True, False, False, False, False, False]


def test_local_shows_its_clients_spread_and_says_so(demo):
    table = summary_table(load_runs(demo))
    assert column(table, "Caption loss")[3].detail.startswith("± ")
    assert "local: mean over 5 clients' own models, ± is the standard deviation over those clients." in table.notes
    assert any("no spread over seeds" in note for note in table.notes)


def test_several_seeds_show_their_spread(study_comparison):
    runs = [run for method in study_comparison.methods for run in method.runs]
    table = summary_table(runs)
    assert all(cell.detail.startswith("± ") for cell in column(table, "Caption loss")[:3])
    assert table.notes == ("± is the standard deviation over 3 seeds.",)


def test_what_sends_nothing_shows_no_bytes(demo):
    sent = column(summary_table(load_runs(demo)), "Sent")
    assert [cell.text for cell in sent] == ["13.3", "13.3", "–", "–", "–", "–"]


def test_data_without_questions_has_no_such_column(tmp_path):
    def without_questions(line):
        return {**line, "question_accuracy": None, "question_accuracy_by_kind": None}

    write_run(tmp_path / "fedavg", "fedavg", rounds=2, change=without_questions, samples=False)
    assert not any("Question" in header for header in summary_table(load_runs(tmp_path)).headers)


def test_unfinished_runs_bring_a_column_of_rounds(tmp_path):
    write_run(tmp_path / "shared-basis", "shared-basis", rounds=4, samples=False)
    write_run(
        tmp_path / "fedavg",
        "fedavg",
        rounds=4,
        samples=False,
        change=lambda line: line if (line.get("round") or 0) <= 2 and line["kind"] != "finished" else None,
    )
    rounds = column(summary_table(load_runs(tmp_path)), "Rounds")
    assert {cell.plain for cell in rounds} == {"4 of 4", "2 of 4, unfinished", "–"}


def test_an_unfinished_method_is_not_best_while_a_finished_one_is_there(tmp_path):
    write_run(tmp_path / "fedavg", "fedavg", rounds=4, samples=False)
    unfinished = write_run(
        tmp_path / "shared-basis",
        "shared-basis",
        rounds=4,
        samples=False,
        change=lambda x: x if x["kind"] != "finished" else None,
    )
    assert Comparison.of(load_runs(tmp_path)).best.label == "fedavg"
    assert Comparison.of(load_runs(unfinished)).best.label == "shared-basis"


def test_a_diverged_method_comes_last_and_is_never_best(tmp_path):
    def diverge(line):
        return {**line, "caption_loss": float("nan")} if line.get("model") == "global" else line

    write_run(tmp_path / "a", "fedadam", rounds=2, change=diverge, samples=False)
    write_run(tmp_path / "b", "fedavg", rounds=2, samples=False)
    comparison = Comparison.of(load_runs(tmp_path))
    assert comparison.best.label == "fedavg"
    table = summary_table(load_runs(tmp_path))
    assert [row.cells[1].text for row in table.rows[:2]][1] == "diverged"


def changed_losses(folder, method, losses):
    """A run whose global model has these losses, by round."""

    def change(line):
        if line["kind"] == "evaluation" and line["model"] == "global":
            return line | {"caption_loss": losses[line["round"] - 1]}
        return line

    return write_run(folder / method, method, rounds=len(losses), change=change)


def best_notes(folder):
    return [note for note in summary_table(load_runs(folder)).notes if note.startswith("Better before the last round")]


def test_a_run_that_was_better_before_its_last_round_is_named_and_its_loss_called_biased(tmp_path):
    changed_losses(tmp_path, "fedavg", [0.9, 0.31, 0.32, 0.33])
    changed_losses(tmp_path, "moon", [0.9, 0.4, 0.3999, 0.4001])  # by less than is written
    changed_losses(tmp_path, "shared-basis", [0.9, 0.4, 0.3, 0.2])
    changed_losses(tmp_path, "fedprox", [0.9, 0.4, 0.3, float("nan")])
    (note,) = best_notes(tmp_path)
    assert "(fedavg, round 2: 0.310, last: 0.330; fedprox, round 3: 0.300, last: diverged)" in note
    assert "fedcmp export RUN OUT --round best" in note
    assert "biased" in note


def test_many_such_runs_are_counted(tmp_path):
    for method in ("fedavg", "moon", "fedprox", "scaffold", "ties", "dare"):
        changed_losses(tmp_path, method, [0.3, 0.4])
    (note,) = best_notes(tmp_path)
    assert note.count(", round 1: 0.300, last: 0.400;") == 4
    assert "; 2 more)" in note


def test_without_such_a_run_nothing_is_said(tmp_path):
    changed_losses(tmp_path, "fedavg", [0.4, 0.3])
    assert best_notes(tmp_path) == []
