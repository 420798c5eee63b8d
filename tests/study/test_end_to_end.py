"""`fedcmp study` as a user runs it: two methods and a reference, tuned, cached, reported."""

import json
import os
import subprocess
import sys

import pytest


def fedcmp(*arguments, cache):
    environment = os.environ | {"FEDCMP_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "fedcmp", *map(str, arguments)], capture_output=True, text=True, env=environment
    )


def test_a_small_study(content, write, world_cache):
    content["tuning"]["rungs"] = [{"trials": 1, "captions": 100}]
    content["scenario"]["image"]["seeds"] = [1]
    del content["method"]["centralized"]
    recipe = write(content)
    done = fedcmp("study", recipe, cache=world_cache)
    assert done.returncode == 0, done.stderr
    assert "2 short runs of tuning, 4 runs (image 3, iid 1): about" in done.stderr
    folder = recipe.parent / "results"
    files = {str(path.relative_to(folder / "runs")) for path in folder.glob("runs/*/*/*.json")}
    assert {f"image/{m}/seed-1.json" for m in ("fedavg", "shared-basis", "arm-no-momentum")} <= files
    assert len(files) == 4  # and the better one of fedavg and fedcmp on IID clients
    record = json.loads((folder / "runs" / "image" / "shared-basis" / "seed-1.json").read_text())
    assert len(record["rounds_evaluated"]) == 2
    assert record["final"]["suites"]["mme-world"] >= 0
    assert record["settings"]["options"]["momentum"] == 0.5
    assert "Fed-CMP without momentum" in (folder / "report" / "index.html").read_text()
    times = {path: path.stat().st_mtime_ns for path in folder.glob("runs/*/*/*.json")}
    again = fedcmp("study", recipe, cache=world_cache)
    assert again.returncode == 0, again.stderr
    assert "0 short runs of tuning, 0 runs" in again.stderr
    assert times == {path: path.stat().st_mtime_ns for path in folder.glob("runs/*/*/*.json")}


@pytest.mark.slow
def test_running_out_of_time_is_told_and_what_is_missing_is_planned(content, write, world_cache):
    done = fedcmp("study", write(content), "--plan", cache=world_cache)
    assert done.returncode == 0, done.stderr
    assert "6 short runs of tuning, 8 runs (image 7, iid 1): about" in done.stdout
    done = fedcmp("study", write(content), "--minutes", "0", cache=world_cache)
    assert done.returncode == 0, done.stderr
    assert "time is up" in done.stderr


def test_a_mistake_is_one_line(content, write, world_cache):
    content["tuning"]["seed"] = 1
    done = fedcmp("study", write(content), cache=world_cache)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "is what the methods are tuned on" in done.stderr
