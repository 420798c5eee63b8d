"""`fedcmp evaluate --suite llava7` as a user types it, lmms-eval's python replaced by a stand-in."""

import json
import os
import subprocess
import sys

import pytest
from transformers import LlavaForConditionalGeneration

from fedcmp.config import parse_recipe
from fedcmp.simulation.train import train

from ..evaluation.lmms.fake_lmms import FakeLmms
from ..evaluation.lmms.real_formats import write_datasets


@pytest.fixture(scope="module")
def runs(tmp_path_factory, world_cache):
    """Two methods, one of them with a projector a client."""
    content = {
        "run": {
            "folder": str(tmp_path_factory.mktemp("runs")),
            "methods": ["fedavg", "local"],
            "cache": str(world_cache),
        },
        "data": {"num_pairs": 64},
        "scenario": {"clients": 2},
        "federation": {"rounds": 1},
        "evaluation": {"captions": 16, "questions_per_kind": 0, "samples": 0},
    }
    content["run"]["workers"] = 1
    return train(parse_recipe(content, "test"), progress=lambda *_: None)


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    return write_datasets(tmp_path_factory.mktemp("datasets"), ("pope", "mme", "seed"))


def fedcmp(*arguments, fake, cache):
    environment = os.environ | {"FEDCMP_CACHE": str(cache), "FEDCMP_LMMS_PYTHON": str(fake.python)}
    command = [sys.executable, "-m", "fedcmp.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment | {"OMP_NUM_THREADS": "1"})


def test_a_comparison_is_asked_run_by_run_and_client_by_client(runs, datasets, tmp_path, world_cache):
    fake = FakeLmms(tmp_path / "fake")
    ask = ("evaluate", runs, "--suite", "llava7", "--datasets", datasets)
    done = fedcmp(*ask, fake=fake, cache=world_cache)
    assert done.returncode == 0, done.stderr
    for line in (
        "fedavg: pope: 50.0 (1 of 4 answers are empty)",
        "local, client-1: mme: 0.5 (1 of 4 answers are empty)",
        "fedavg: mm-vet: skipped: its answers need a judge: give --judge-url and --judge-model",
        "fedavg: seed: skipped: lmms-eval's task takes no other form of prompts",
        f"fedavg: mmvp: skipped: {datasets} holds no folder for it, such as mmvp/",
    ):
        assert line in done.stdout
    assert fake.asked() == ["fedcmp_pope", "fedcmp_mme"] * 3
    record = json.loads((runs / "fedavg" / "benchmarks" / "pope.json").read_text())
    assert record["prompts"]["before"] == "question : "  # the embedded world's LLM
    assert (runs / "local" / "benchmarks" / "client-0" / "pope.json").is_file()
    assert "Fed-CMP, the paper's figures" in (runs / "report" / "tables.md").read_text()
    again = fedcmp(*ask, fake=fake, cache=world_cache)
    assert "local, client-0: pope: 50.0 (kept)" in again.stdout
    assert len(fake.calls()) == 6


def test_a_run_is_exported_for_it_and_an_exported_folder_is_taken_as_it_is(runs, datasets, tmp_path, world_cache):
    fake = FakeLmms(tmp_path / "fake")
    fake.breaks("pope")  # then what it was given stays for looking at
    ask = ("--suite", "llava7", "--datasets", datasets, "--only", "pope", "--out", tmp_path / "out")
    done = fedcmp("evaluate", runs / "fedavg", *ask, fake=fake, cache=world_cache)
    assert done.returncode == 2
    assert "RuntimeError: this task is broken" in done.stderr
    (exported,) = (tmp_path / "out" / ".work").glob("model-*")
    _, info = LlavaForConditionalGeneration.from_pretrained(exported, output_loading_info=True)
    assert not info["missing_keys"]
    assert f"pretrained={exported.resolve()},device_map=cpu" in fake.calls()[0][0]
    fake.say("pope", {"pope_f1_score": 0.5})
    done = fedcmp(
        "evaluate", exported, *ask[:-1], tmp_path / "other", "--prompts", "world", fake=fake, cache=world_cache
    )
    assert done.returncode == 0, done.stderr
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
    ],
)
def test_a_mistake_is_one_line(runs, datasets, tmp_path, world_cache, arguments, said):
    places = {"RUN": runs / "fedavg", "DATA": datasets}
    fake = FakeLmms(tmp_path / "fake")
    done = fedcmp("evaluate", *(places.get(a, a) for a in arguments), fake=fake, cache=world_cache)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert said in done.stderr


def test_the_environments_recipe_is_printed(tmp_path, world_cache):
    done = fedcmp("evaluate", "--print-environment", fake=FakeLmms(tmp_path / "fake"), cache=world_cache)
    assert done.returncode == 0
    assert "lmms-env/bin/pip install -r lmms-requirements.txt" in done.stdout
