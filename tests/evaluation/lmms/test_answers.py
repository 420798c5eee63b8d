import json

import pytest

from fedcmp.errors import UserError
from fedcmp.evaluation.lmms.answers import last_error, read_answers
from fedcmp.evaluation.lmms.benchmarks import BENCHMARKS


def write(output, name, figures, lines, log=""):
    task = BENCHMARKS[name].task_name
    place = output / "model"
    place.mkdir(parents=True)
    results = {
        "results": {task: {f"{k},none": v for k, v in figures.items()}},
        "n-samples": {task: {"original": 9}},
    }
    (place / "20260101_results.json").write_text(json.dumps(results))
    (place / f"20260101_samples_{task}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (output / "log").write_text(log)
    return BENCHMARKS[name], output, output / "log"


def line(doc_id, answer="yes", **more):
    return {"doc_id": doc_id, "input": "?", "target": "yes", "filtered_resps": answer} | more


def test_figures_come_in_the_papers_units(tmp_path):
    figures = {"pope_f1_score": 0.75, "pope_accuracy": 0.5, "pope_yes_ratio": 0.5, "pope_recall": "N/A"}
    answers = read_answers(*write(tmp_path, "pope", figures, [line(1), line(0, ["no"])]))
    assert answers.score == 75
    assert answers.metrics == {"pope_f1_score": 75, "pope_accuracy": 50}
    assert [sample["answer"] for sample in answers.samples] == ["no", "yes"]
    assert answers.items == 9


def test_an_answer_that_failed_is_no_empty_answer(tmp_path):
    figures = {"mme_perception_score": 1.0}
    log = "\x1b[31mError CUDA out of memory in generating\x1b[0m"
    with pytest.raises(UserError, match="1 answers failed: CUDA out of memory"):
        read_answers(*write(tmp_path, "mme", figures, [line(0, "")], log))


def test_an_error_of_several_lines_is_one_too(tmp_path):
    """As CUDA's are: with only lines looked at, the failed answers would pass for the model's own silence."""
    log = "Error of something else\nError CUDA error: assert triggered\nCompile with DSA.\n in generating\n" * 2
    with pytest.raises(UserError, match="2 answers failed: CUDA error: assert triggered Compile with DSA") as error:
        read_answers(*write(tmp_path, "mme", {"mme_perception_score": 1.0}, [line(0, ""), line(1, "")], log))
    assert "\n" not in str(error.value)


def test_a_silent_model_is_counted(tmp_path):
    answers = read_answers(*write(tmp_path, "mme", {"mme_perception_score": 0.0}, [line(0, ""), line(1)]))
    assert answers.empty == 1


@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        ("mm-vet", {"score": 0.0, "eval_model": ""}),
        ("llava-bench", {"scores": [-1, -1], "eval_model": "m"}),
        ("llava-bench", {"scores": [8, 4], "eval_model": ""}),
        ("mm-vet", None),
    ],
)
def test_a_judge_that_did_not_judge_gives_no_figure(tmp_path, name, verdict):
    metric = BENCHMARKS[name].score[0]
    fine = {"score": 1.0, "scores": [8, 4], "eval_model": "m"}
    lines = [line(0, **{metric: fine}), line(1, **{metric: verdict})]
    with pytest.raises(UserError, match="no usable verdict on 1 of 2 answers"):
        read_answers(*write(tmp_path, name, {metric: 5.0}, lines))


def test_a_judge_that_never_gave_a_number(tmp_path):
    verdict = {"gpt_eval_score": {"score": 0.0, "eval_model": "m"}}
    log = "Reach to max trials, v1_0 failed to get a score."
    with pytest.raises(UserError, match="no usable verdict on 1 of 1"):
        read_answers(*write(tmp_path, "mm-vet", {"gpt_eval_score": 0.0}, [line(0, **verdict)], log))


def test_who_judged_is_kept(tmp_path):
    verdict = {"gpt_eval_score": {"score": 0.5, "eval_model": "little-judge"}}
    assert read_answers(*write(tmp_path, "mm-vet", {"gpt_eval_score": 50.0}, [line(0, **verdict)])).judged_by == [
        "little-judge"
    ]


def test_a_missing_figure_and_missing_files(tmp_path):
    with pytest.raises(UserError, match="gave no figure seed_image"):
        read_answers(*write(tmp_path / "a", "seed", {"seed_all": 0.2}, [line(0)]))
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "log").write_text("x\nValueError: first\n  File x\nlmms.Error: the last one\ntable\n")
    with pytest.raises(UserError, match=r"lmms-eval failed: lmms\.Error: the last one"):
        read_answers(BENCHMARKS["seed"], tmp_path / "b", tmp_path / "b" / "log")


def test_a_log_without_an_error_gives_its_last_line(tmp_path):
    (tmp_path / "log").write_text("begun\nKilled\n\n")
    assert last_error(tmp_path / "log") == "Killed"
    assert last_error(tmp_path / "none") == "it left no log"
