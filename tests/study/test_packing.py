"""A published study is the whole study: unpacked, nothing is left to run and the report is the same."""

import json
from pathlib import Path

import pytest

from fedcmp.errors import UserError
from fedcmp.report.study import load_study as read_study
from fedcmp.report.study import write_study_report
from fedcmp.study.files import write_json
from fedcmp.study.packing import pack_study, unpack_study
from fedcmp.study.recipe import load_study
from fedcmp.study.runner import Study
from fedcmp.study.workers import Done

ROOT = Path(__file__).parents[2]


class FakeWorkers:
    """Answers at once what a worker would; counts what it was asked."""

    def __init__(self, count):
        self.asked = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def run(self, tasks, *, may_start):
        for number, task in enumerate(tasks):
            self.asked.append(task["op"])
            yield Done(number, ANSWERS[task["op"]](task))


def run_answer(task):
    loss = 0.5 + len(task["method"]) / 100
    figures = {"caption_loss": loss, "worst_family": "chart", "worst_family_loss": loss + 0.1, "mean_loss": loss + 0.05}
    return {
        "federated": True,
        "captions": 200,
        "clients": 2,
        "rounds": 2,
        "versions": {"fedcmp": "1"},
        "bytes_sent": 8,
        "training_seconds": 1.5,
        "rounds_evaluated": [{"round": 2, **figures}],
        "final": {**figures, "question_accuracy": None, "suites": {"mme": 100 * loss}},
    }


SUITE = {"score": 10.0, "chance": 5.0, "noise": 1.0, "items": 9, "hash": "x"}
ANSWERS = {
    "run": run_answer,
    "blind": lambda _: {"caption_loss": 0.9, "worst_family_loss": 1.2, "suites": {"mme": SUITE}},
    "scenario": lambda _: {
        "sizes": [90, 110],
        "heterogeneity": {"silhouette": {"image": 0.25}, "alignment": [0.1, 0.2]},
        "map": {"metric": "image", "x": [0.0, 1.0], "y": [2.0, None], "client": [0, 1]},
    },
}


@pytest.fixture
def run_study(content, write, monkeypatch):
    """Run the small study in a folder; returns the study and what its workers were asked."""

    def run(folder):
        made = []
        monkeypatch.setattr("fedcmp.study.runner.Workers", lambda count: made.append(FakeWorkers(count)) or made[-1])
        content["study"]["folder"] = str(folder)
        study = Study(load_study(write(content)), lambda line: None)
        study.run()
        write_study_report(folder)
        return study, made[0].asked

    return run


def test_a_packed_study_resumes_and_reports_as_before(tmp_path, run_study):
    study, asked = run_study(tmp_path / "first")
    assert {"run", "blind", "scenario"} == set(asked)
    benchmark = study.files.benchmarks("image", "fedavg", 1) / "client-0" / "pope.json"
    write_json(benchmark, {"benchmark": "pope", "score": 50.5})
    write_study_report(tmp_path / "first")
    tables = pack_study(tmp_path / "first", tmp_path / "small.jsonl")
    packed = (tmp_path / "small.jsonl").read_text()
    assert unpack_study(tmp_path / "small.jsonl", tmp_path / "second") == packed.count("\n")

    again, asked = run_study(tmp_path / "second")
    assert asked == []
    assert again.estimate().startswith("0 short runs of tuning, 0 runs (none)")
    report = (tmp_path / "second" / "report" / "tables.md").read_text()
    assert report == tables.read_text() == (tmp_path / "first" / "report" / "tables.md").read_text()
    assert read_study(tmp_path / "second") == read_study(tmp_path / "first")
    pack_study(tmp_path / "second", tmp_path / "again.jsonl")
    assert (tmp_path / "again.jsonl").read_text() == packed


def test_one_line_per_file_sorted_and_of_a_kind(tmp_path, run_study):
    run_study(tmp_path / "study")
    pack_study(tmp_path / "study", tmp_path / "small.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "small.jsonl").read_text().splitlines()]
    kinds = [line["kind"] for line in lines]
    assert list(dict.fromkeys(kinds)) == ["study", "reference", "scenario", "tuning", "run"]
    runs = [(line["scenario"], line["method"], line["seed"]) for line in lines if line["kind"] == "run"]
    assert runs == sorted(runs)
    assert all(line["hash"] and line["versions"] for line in lines if line["kind"] == "run")


def test_what_is_there_already_is_left_as_it_is(tmp_path, run_study):
    study, _ = run_study(tmp_path / "study")
    pack_study(tmp_path / "study", tmp_path / "small.jsonl")
    mine = study.files.run("image", "fedavg", 1)
    mine.write_text("{}")
    study.files.blind.unlink()
    assert unpack_study(tmp_path / "small.jsonl", tmp_path / "study") == 1
    assert mine.read_text() == "{}"


@pytest.mark.parametrize(
    "line",
    [
        {"kind": "weather"},
        {"kind": "run", "scenario": "image", "method": "fedavg"},
        {"kind": "run", "scenario": "..", "method": "fedavg", "seed": 1},
        {"kind": "run", "scenario": "image", "method": "a/../../b", "seed": 1},
        {"kind": "tuning", "method": ""},
        {"kind": "scenario", "scenario": "/tmp", "seed": 1},
        {"kind": "benchmark", "scenario": "a", "method": "b", "seed": 1, "file": "../x.json", "content": {}},
        {"kind": "benchmark", "scenario": "a", "method": "b", "seed": 1, "file": "x.json"},
        [1],
    ],
)
def test_a_line_of_something_else_or_out_of_the_folder_is_refused(tmp_path, line):
    packed = tmp_path / "small.jsonl"
    packed.write_text(json.dumps(line) + "\n")
    with pytest.raises(UserError, match=r"small\.jsonl: line 1 is none of a packed study"):
        unpack_study(packed, tmp_path / "study")
    assert not (tmp_path / "study").exists()


def test_a_study_is_packed_once_it_is_there_and_into_the_right_kind_of_file(tmp_path):
    with pytest.raises(UserError, match=r"study\.json: is not there; run the study first"):
        pack_study(tmp_path, tmp_path / "small.jsonl")
    with pytest.raises(UserError, match=r"ends in \.jsonl"):
        pack_study(tmp_path, tmp_path / "small.json")
    with pytest.raises(UserError, match=r"absent\.jsonl: cannot be read"):
        unpack_study(tmp_path / "absent.jsonl", tmp_path / "study")


@pytest.mark.parametrize("name", [pytest.param("study", marks=pytest.mark.slow), "questions"])
def test_nothing_is_left_to_run_of_what_is_published(tmp_path, monkeypatch, name):
    """Every published run carries the hash of the run that its recipe asks for today."""
    made = []
    monkeypatch.setattr("fedcmp.study.runner.Workers", lambda count: made.append(FakeWorkers(count)) or made[-1])
    monkeypatch.setattr("fedcmp.study.files.write_whole", lambda path, content: path.write_bytes(content))  # no fsync
    unpack_study(ROOT / "results" / f"{name}.jsonl", tmp_path / name)
    said = []
    Study(load_study(ROOT / "recipes" / f"{name}.toml", [f'study.folder="{tmp_path / name}"']), said.append).run()
    assert made[0].asked == []
    assert said == ["0 short runs of tuning, 0 runs (none): about 0 minutes"]
    write_study_report(tmp_path / name)
    assert pack_study(tmp_path / name, tmp_path / f"{name}.jsonl").read_text() == (
        ROOT / "results" / f"{name}.md"
    ).read_text(encoding="utf-8")
    assert (tmp_path / f"{name}.jsonl").read_bytes() == (ROOT / "results" / f"{name}.jsonl").read_bytes()
