"""`fedcmp evaluate --suite llava7` as a user types it, lmms-eval's python replaced by a stand-in."""

import json
import shutil

import pytest
from transformers import LlavaForConditionalGeneration

from ..evaluation.lmms.real_formats import write_datasets


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    return write_datasets(tmp_path_factory.mktemp("datasets"), ("pope", "mme", "seed"))


def test_a_comparison_is_asked_run_by_run_and_client_by_client(runs, datasets, fedcmp):
    ask = ("evaluate", runs, "--suite", "llava7", "--datasets", datasets)
    code, out, err = fedcmp(*ask)
    assert code == 0, err
    for line in (
        f"{runs}/fedavg: pope: 50.0 (1 of 4 answers are empty)",
        f"{runs}/local, client-1: mme: 0.5 (1 of 4 answers are empty)",
        f"{runs}/fedavg: mm-vet: skipped: its answers need a judge: give --judge-url and --judge-model",
        f"{runs}/fedavg: seed: skipped: lmms-eval's task always asks in its own form, and this model is asked in the "
        "embedded world's",
        f"{runs}/fedavg: mmvp: skipped: {datasets} holds no folder for it, such as mmvp/, or an empty one",
    ):
        assert f"\n{line}" in f"\n{out}"
        assert (out + err).count(line.removeprefix(str(runs))) == 1  # told once, among the results
    assert fedcmp.fake.asked() == ["fedcmp_pope", "fedcmp_mme"] * 3
    record = json.loads((runs / "fedavg" / "benchmarks" / "pope.json").read_text())
    assert record["prompts"]["before"] == "question : "  # the embedded world's LLM
    assert record["round"] == 1
    assert (runs / "local" / "benchmarks" / "client-0" / "pope.json").is_file()
    assert "Fed-CMP, the paper's figures" in (runs / "report" / "tables.md").read_text()
    _, out, _ = fedcmp(*ask)
    assert f"{runs}/local, client-0: pope: 50.0 (kept)" in out
    assert len(fedcmp.fake.calls()) == 6


def test_a_run_is_exported_for_it_and_an_exported_folder_is_taken_as_it_is(runs, datasets, tmp_path, fedcmp):
    fake = fedcmp.fake
    fake.breaks("pope")  # then what it was given stays for looking at
    ask = ("--suite", "llava7", "--datasets", datasets, "--only", "pope", "--out", tmp_path / "out")
    code, _, err = fedcmp("evaluate", runs / "fedavg", *ask)
    assert code == 2
    assert "RuntimeError: this task is broken" in err
    (exported,) = (tmp_path / "out" / ".work").glob("model-*")
    _, info = LlavaForConditionalGeneration.from_pretrained(exported, output_loading_info=True)
    assert not info["missing_keys"]
    assert f"pretrained={exported.resolve()},device_map=cpu" in fake.calls()[0][0]
    fake.say("pope", {"pope_f1_score": 0.5})
    code, _, err = fedcmp("evaluate", exported, *ask[:-1], tmp_path / "other", "--prompts", "world")
    assert code == 0, err
    assert json.loads((tmp_path / "other" / "pope.json").read_text())["score"] == 50


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("RUN", "--suite", "llava8", "--datasets", "DATA"), "--suite llava8: there is llava7"),
        (("RUN", "--suite", "llava7"), "--datasets: name the folder"),
        (("RUN", "--suite", "llava7", "--datasets", "DATA", "--only", "mm-vet"), "mm-vet: its answers need a judge"),
        (("RUN", "--suite", "llava7", "--datasets", "DATA", "--client", "3"), "leave --client out"),
        (("DATA", "--suite", "llava7", "--datasets", "DATA"), "neither a run's folder"),
        ((), "name a run's folder"),
        (("nowhere", "--suite", "llava7", "--datasets", "DATA"), "nowhere: no such folder; name a run's folder"),
        (("nowhere",), "nowhere: no such folder; name a run's folder"),
        (("RUN", "--only", "pope"), "--only: goes with --suite llava7"),
        (("RUN", "--limit", "3"), "--limit: goes with --suite llava7"),
        (("RUN", "--suite", "llava7", "--datasets", "DATA", "--only", ","), "names no benchmark; there are mm-vet"),
        (("RUN", "--suite", "llava7", "--datasets", "DATA", "--device", "banana"), "device banana: give auto, cpu"),
        (("RUN", "--suite", "llava7", "--datasets", "DATA", "--device", "cuda:1"), "sees no GPU; give cpu or auto"),
    ],
)
def test_a_mistake_is_one_line(runs, datasets, fedcmp, arguments, said):
    places = {"RUN": runs / "fedavg", "DATA": datasets}
    code, _, err = fedcmp("evaluate", *(places.get(a, a) for a in arguments))
    assert code == 2
    *begun, mistake = err.splitlines()
    assert len(begun) <= 1  # what is asked, where the mistake is found after loading libraries
    assert said in mistake


def test_a_folder_without_any_data_is_no_success(runs, tmp_path, fedcmp):
    (tmp_path / "none").mkdir()
    code, out, err = fedcmp("evaluate", runs / "fedavg", "--suite", "llava7", "--datasets", tmp_path / "none")
    assert code == 2
    assert "nothing could be asked" in err.splitlines()[-1]
    assert out.count("skipped") == 7


def test_an_empty_folder_of_data_is_no_data_and_a_run_has_a_path(runs, datasets, tmp_path, fedcmp, monkeypatch):
    data = shutil.copytree(datasets, tmp_path / "data")
    shutil.rmtree(data / "mme")
    (data / "MME" / "data").mkdir(parents=True)
    monkeypatch.chdir(runs)
    code, out, err = fedcmp("evaluate", "fedavg", "--suite", "llava7", "--datasets", data, "--out", tmp_path / "out")
    assert code == 0, err
    assert f"./fedavg: mme: skipped: {data} holds no folder for it, such as mme/, or an empty one\n" in out
    assert "./fedavg: pope: 50.0" in out


def test_what_was_asked_is_reported_though_another_failed(runs, datasets, tmp_path, fedcmp):
    fedcmp.fake.breaks("mme")
    code, out, err = fedcmp("evaluate", runs / "fedavg", "--suite", "llava7", "--datasets", datasets, "--limit", 2)
    assert code == 2
    assert f"1 failed, the first: {runs}/fedavg, mme" in err
    assert "report: " in out
    assert "Only the first rows were asked of POPE" in (runs / "fedavg" / "report" / "tables.md").read_text()


def test_the_environments_recipe_is_printed(fedcmp):
    code, out, _ = fedcmp("evaluate", "--print-environment")
    assert code == 0
    assert "lmms-env/bin/pip install -r lmms-requirements.txt" in out
