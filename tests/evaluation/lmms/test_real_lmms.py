"""The real lmms-eval, in an environment that FEDCMP_LMMS_PYTHON names: minutes, hence slow, and skipped without one."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.lmms_answers import compare_answers
from fedcmp.config import parse_recipe
from fedcmp.evaluation.lmms.benchmarks import BENCHMARKS
from fedcmp.evaluation.lmms.child.launch import PIECE
from fedcmp.evaluation.lmms.environment import VARIABLE, probe
from fedcmp.evaluation.lmms.judge import Judge
from fedcmp.evaluation.lmms.suite import Settings
from fedcmp.evaluation.lmms.world_tables import write_world_benchmarks
from fedcmp.evaluation.suites import prepare_suites
from fedcmp.finished.benchmarks import benchmark_folder
from fedcmp.finished.opening import run_recipe
from fedcmp.model.language import LanguageModel
from fedcmp.model.vision import VisionEncoder
from fedcmp.model.vlm import VLM
from fedcmp.preparation.loading import new_trainable
from fedcmp.report.study import write_study_report
from fedcmp.runs.folder import RunFolder
from fedcmp.simulation.train import train
from fedcmp.study.recipe import load_study
from fedcmp.study.runner import Study

from .real_formats import judge, write_datasets

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(VARIABLE not in os.environ, reason=f"{VARIABLE} names no python of lmms-eval's environment"),
]
RECIPE = Path(__file__).parents[3] / "recipes" / "paper-tiny.toml"


@pytest.fixture(scope="module")
def run(tmp_path_factory, world_cache):
    content = {
        "run": {"folder": str(tmp_path_factory.mktemp("runs")), "methods": ["shared-basis"], "cache": str(world_cache)},
        "data": {"num_pairs": 4000},
        "federation": {"rounds": 4},
        "training": {"learning_rate": 0.005},
        "evaluation": {"every": 4, "captions": 16, "questions_per_kind": 0, "samples": 0},
    }
    return train(parse_recipe(content, "test"), progress=lambda *_: None)


def test_answer_by_answer_equal_to_our_own_suites(run, tmp_path, world_cache):
    written = write_world_benchmarks(tmp_path / "data", limit=30)
    chosen = [BENCHMARKS[name] for name in written]
    benchmark_folder(run, Settings(probe(None), tmp_path / "data", tmp_path, chosen, insisted=True), print)
    encoder, language = VisionEncoder("world"), LanguageModel("world")
    projector = new_trainable(run_recipe(run), encoder.width, language.width)
    projector.load_state_dict(RunFolder(run).last().projectors["global"])
    suites = prepare_suites(
        "test", encoder, language, world_cache, names=[f"{name}-world" for name in written], feature_dtype="float32"
    )
    compared = compare_answers(VLM(language, projector), suites, written, run / "benchmarks")
    for name, found in compared.items():
        assert found["equal"] == found["answers"] == len(written[name]), (name, found["different"])
        assert found["ours"] == pytest.approx(found["lmms_eval"])
        assert found["distinct_answers"] > 1


def test_a_killed_process_goes_on_where_it_was(run, tmp_path, world_cache, monkeypatch):
    write_world_benchmarks(tmp_path / "data", limit=30)
    command = [sys.executable, "-m", "fedcmp", "evaluate", run, "--suite", "llava7", "--datasets", tmp_path / "data"]
    command += ["--only", "pope", "--out", tmp_path / "out"]
    process = subprocess.Popen(command, env=os.environ | {"FEDCMP_CACHE": str(world_cache)})

    def kept():
        return sum(len(log.read_text().splitlines()) for log in (tmp_path / "out").rglob("*.audit.jsonl"))

    while kept() < 40 and process.poll() is None:
        time.sleep(0.05)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    time.sleep(1)  # lmms-eval ends with it
    pieces = kept() // PIECE
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)  # its log stays
    settings = Settings(probe(None), tmp_path / "data", tmp_path, [BENCHMARKS["pope"]], insisted=True)
    for out in ("out", "whole"):
        benchmark_folder(run, settings, print, out=tmp_path / out)
    logs = {out: (tmp_path / out / ".work" / "pope" / "log.txt").read_text() for out in ("out", "whole")}
    assert logs["out"].count("served from cache") == pieces >= 2
    assert "served from cache" not in logs["whole"]
    went_on, whole = (json.loads((tmp_path / out / "pope.json").read_text()) for out in ("out", "whole"))
    assert went_on["samples"] == whole["samples"]


def test_all_seven_run_offline_with_a_judge_of_any_name(run, tmp_path):
    with judge() as (url, asked):
        settings = Settings(
            probe(None), write_datasets(tmp_path / "data"), tmp_path, list(BENCHMARKS.values()), judge=Judge(url, "any")
        )
        (outcomes,) = benchmark_folder(run, settings, print, prompts="lmms-eval", out=tmp_path / "out").values()
    assert [outcome.status for outcome in outcomes] == ["asked"] * 7, outcomes
    scores = {outcome.benchmark: outcome.score for outcome in outcomes}
    assert scores["mm-vet"] == scores["llava-bench"] == 50  # 0.5 of 1, and 4 against the reference's 8
    assert {request["model"] for request in asked} == {"any"}
    record = json.loads((tmp_path / "out" / "mm-vet.json").read_text())
    assert record["judge"]["answered_as"] == ["little-judge"]


def test_the_papers_path_at_a_tiny_size(tmp_path):
    write_world_benchmarks(tmp_path / "data", limit=4)
    places = [f"study.folder={tmp_path / 'out'}", f"benchmarks.datasets={tmp_path / 'data'}", "base.data.num_pairs=400"]
    study = Study(load_study(RECIPE, places), print)
    study.run()
    write_study_report(study.files.folder)
    tables = (tmp_path / "out" / "report" / "tables.md").read_text()
    assert "Image clusters: the paper's benchmarks, by lmms-eval — the paper's table 1" in tables
    assert tables.count("| Fed-CMP, the paper's figures |") == 1
    assert tables.count("| Fed-CMP, the paper's figures, image clusters |") == 1  # under the text clusters' own figures
