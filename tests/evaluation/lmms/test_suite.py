import json
from dataclasses import replace

import pytest

from fedcmp.errors import UserError
from fedcmp.evaluation.lmms.benchmarks import BENCHMARKS, chosen_benchmarks, prompts_named
from fedcmp.evaluation.lmms.datasets import TOY
from fedcmp.evaluation.lmms.environment import probe
from fedcmp.evaluation.lmms.judge import Judge
from fedcmp.evaluation.lmms.suite import AskedModel, Settings, ask_benchmarks

from .real_formats import judge


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    return AskedModel("hash-1", lambda _work: folder)


@pytest.fixture
def settings(fake, datasets, tmp_path):
    return Settings(probe(fake.python), datasets, tmp_path / "cache", [BENCHMARKS["pope"], BENCHMARKS["mme"]])


def ask(model, tmp_path, settings):
    said = []
    outcomes = ask_benchmarks(model, tmp_path / "out", settings, said.append)
    return {outcome.benchmark: outcome for outcome in outcomes}, said


def test_figures_hashes_and_answers_are_kept_in_one_file_each(fake, model, tmp_path, settings):
    outcomes, said = ask(model, tmp_path, settings)
    assert outcomes["pope"].score == 50
    assert "pope: 50.0 (1 of 4 answers are empty)" in said
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["mme.json", "pope.json"]
    record = json.loads((tmp_path / "out" / "pope.json").read_text())
    assert (record["score"], record["asked"], record["items"]) == (50, 4, 4)
    assert (record["model"], record["lmms_eval"], record["limit"], record["judge"]) == ("hash-1", "0.7.3", None, None)
    assert len(record["task_sha256"]) == len(record["data_sha256"]) == 64
    assert record["samples"][3] == {"doc_id": 3, "input": "question 3", "target": "yes", "answer": "yes"}
    assert fake.asked() == ["fedcmp_pope", "fedcmp_mme"]
    _, variables, place = fake.calls()[0]
    assert variables["HF_HUB_OFFLINE"] == "1"
    assert "OPENAI_API_KEY" not in variables
    assert place.endswith("output")  # not where the user is: lmms-eval would read a .env there


def test_what_is_there_and_fits_is_not_asked_again(fake, model, tmp_path, settings):
    ask(model, tmp_path, settings)
    unused = AskedModel("hash-1", lambda _work: pytest.fail("nothing was to be exported"))
    outcomes, said = ask(unused, tmp_path, settings)
    assert outcomes["mme"].status == "kept"
    assert outcomes["mme"].score == 0.5
    assert "mme: 0.5 (kept)" in said
    assert len(fake.calls()) == 2


def test_a_second_process_does_not_take_the_first_ones_files_away(fake, model, tmp_path, settings):
    def second(_work):
        with pytest.raises(UserError, match=r"out: another process asks benchmarks here; wait for it, or .* --out"):
            ask(model, tmp_path, replace(settings, benchmarks=[BENCHMARKS["mmvp"]]))
        ask_benchmarks(model, tmp_path / "elsewhere", replace(settings, benchmarks=[BENCHMARKS["mme"]]), print)
        return model.folder(_work)

    outcomes, _ = ask(replace(model, folder=second), tmp_path, settings)
    assert {outcome.status for outcome in outcomes.values()} == {"asked"}


@pytest.mark.parametrize("change", ["model", "limit", "prompts", "version", "task", "torn"])
def test_what_does_not_fit_is_asked_again(fake, model, tmp_path, settings, change):
    settings = replace(settings, benchmarks=[BENCHMARKS["pope"]])
    ask(model, tmp_path, settings)
    if change == "model":
        model = replace(model, hash="hash-2")
    elif change == "limit":
        settings = replace(settings, limit=2)
    elif change == "prompts":
        settings = replace(settings, prompts=prompts_named("world"))
    elif change == "version":
        environment = replace(settings.environment, versions=settings.environment.versions | {"lmms-eval": "0.8"})
        settings = replace(settings, environment=environment)
    elif change == "task":
        (fake.tasks / "pope" / "utils.py").write_text("changed = True")
    else:
        (tmp_path / "out" / "pope.json").write_text('{"score": 50, "ident')
    outcomes, _ = ask(model, tmp_path, settings)
    assert outcomes["pope"].status == "asked"
    assert len(fake.calls()) == 2


def test_one_that_fails_keeps_none_of_the_others_back_and_goes_on_later(fake, model, tmp_path, settings):
    fake.breaks("pope")
    outcomes, _ = ask(model, tmp_path, settings)
    assert outcomes["pope"].status == "failed"
    assert "RuntimeError: this task is broken" in outcomes["pope"].reason
    assert outcomes["mme"].status == "asked"
    assert not (tmp_path / "out" / "pope.json").exists()
    assert (tmp_path / "out" / ".work" / "pope" / "log.txt").is_file()
    fake.say("pope", {"pope_f1_score": 0.25})
    outcomes, _ = ask(model, tmp_path, settings)
    assert (outcomes["pope"].status, outcomes["pope"].score) == ("asked", 25)
    assert fake.asked() == ["fedcmp_pope", "fedcmp_mme", "fedcmp_pope"]
    answers = [words[words.index("--use_cache") + 1] for words, _, _ in fake.calls()]
    assert answers[0] == answers[2]  # where lmms-eval finds what it answered before it was killed
    assert not (tmp_path / "out" / ".work").exists()


def test_the_embedded_worlds_items_are_named_after_it(fake, model, tmp_path, settings):
    (settings.datasets / TOY).write_text("{}")
    settings = replace(settings, benchmarks=[BENCHMARKS["pope"]])
    for status in ("asked", "kept"):
        outcomes, said = ask(model, tmp_path, settings)
        assert {name: outcome.status for name, outcome in outcomes.items()} == {"pope-world": status}
        assert all(line.startswith("pope-world: ") for line in said)
    assert json.loads((tmp_path / "out" / "pope.json").read_text())["toy"] is True
    (settings.datasets / TOY).unlink()
    outcomes, _ = ask(model, tmp_path, settings)
    assert {name: outcome.status for name, outcome in outcomes.items()} == {"pope": "asked"}


def test_without_judge_or_data_it_says_so(fake, model, tmp_path, settings):
    settings = replace(settings, benchmarks=chosen_benchmarks(None))
    outcomes, said = ask(model, tmp_path, settings)
    assert [name for name, o in outcomes.items() if o.status == "skipped"] == ["mm-vet", "llava-bench"]
    assert "mm-vet: skipped: its answers need a judge: give --judge-url and --judge-model" in said
    assert len(fake.calls()) == 5
    (tmp_path / "few").mkdir()
    outcomes, _ = ask(model, tmp_path, replace(settings, datasets=tmp_path / "few"))
    assert "holds no folder for it, such as pope/" in outcomes["pope"].reason
    few = replace(settings, datasets=tmp_path / "few", insisted=True, benchmarks=[BENCHMARKS["pope"]])
    with pytest.raises(UserError, match=r"pope: .* holds no folder"):
        ask(model, tmp_path, few)
    with pytest.raises(UserError, match="mm-vet: its answers need a judge"):
        ask(model, tmp_path, replace(settings, insisted=True, benchmarks=[BENCHMARKS["mm-vet"]]))


def test_the_judge_and_its_prompt_are_in_the_results_and_another_judge_is_another_result(
    fake, model, tmp_path, settings
):
    with judge() as (url, _):
        settings = replace(settings, benchmarks=[BENCHMARKS["mm-vet"]], judge=Judge(url, "judge-a"))
        ask(model, tmp_path, settings)
        record = json.loads((tmp_path / "out" / "mm-vet.json").read_text())["judge"]
        assert (record["model"], record["url"], record["answered_as"]) == ("judge-a", url, ["little-judge"])
        assert len(record["prompt_sha256"]) == 64
        assert fake.calls()[0][1]["OPENAI_API_URL"] == url
        ask(model, tmp_path, replace(settings, judge=Judge(url, "judge-b")))
    assert len(fake.calls()) == 2


def test_a_judge_that_is_not_there_is_told_before_the_model_is_asked(fake, model, tmp_path, settings):
    settings = replace(settings, benchmarks=[BENCHMARKS["mm-vet"]], judge=Judge("http://127.0.0.1:9/v1", "m"))
    outcomes, _ = ask(model, tmp_path, settings)
    assert outcomes["mm-vet"].status == "failed"
    assert "--judge-url http://127.0.0.1:9/v1: no judge answers there" in outcomes["mm-vet"].reason
    assert not fake.calls()


def test_unknown_names_are_refused():
    assert [b.name for b in chosen_benchmarks("mme, pope")] == ["pope", "mme"]
    with pytest.raises(UserError, match="did you mean pope"):
        chosen_benchmarks("popes")
    with pytest.raises(UserError, match="no form of prompts"):
        prompts_named("mine")
