"""`fedcmp study` as a user runs it: two methods and a reference, tuned, cached, reported."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest


def environment(cache):
    return os.environ | {"FEDCMP_CACHE": str(cache), "OMP_NUM_THREADS": "1"}


def fedcmp(*arguments, cache):
    return subprocess.run(
        [sys.executable, "-m", "fedcmp", *map(str, arguments)], capture_output=True, text=True, env=environment(cache)
    )


def begun(recipe, cache, log):
    """Start `fedcmp study`, its lines for people in a file."""
    command = [sys.executable, "-m", "fedcmp", "study", str(recipe)]
    with log.open("w") as stream:
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stream, env=environment(cache))


def ended_tasks(log):
    """The tasks that a process says it has ended."""
    return Counter(re.findall(r"^\[.*? min left\] (.*): (?:caption loss|done)", log.read_text(), re.MULTILINE))


def claimed_by(process, folder):
    """What a process does at this moment."""
    held = []
    for path in folder.glob("claims/runs+*.claim"):
        try:
            told = json.loads(path.read_text())
        except (OSError, ValueError):  # given back or taken just now
            continue
        held += [path.stem] if told["process"] == process.pid else []
    return held


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


def test_two_processes_share_a_study_and_one_that_is_killed_is_replaced(content, write, world_cache, tmp_path):
    content["tuning"]["rungs"] = [{"trials": 1, "captions": 100}]
    content["scenario"] = {"image": content["scenario"]["image"] | {"trajectory_seeds": []}}
    content["study"]["suites"] = []
    del content["method"]["centralized"]
    recipe, folder = write(content), tmp_path / "results"
    logs = [tmp_path / "first.txt", tmp_path / "second.txt"]
    first, second = [begun(recipe, world_cache, log) for log in logs]
    try:
        until = time.monotonic() + 300
        while not (held := claimed_by(first, folder)):
            assert first.poll() is None, logs[0].read_text()
            assert time.monotonic() < until
            time.sleep(0.01)
        os.kill(first.pid, signal.SIGKILL)  # in the middle of a run
        first.wait()
        assert second.wait(300) == 0, logs[1].read_text()
    finally:
        for process in (first, second):
            process.kill()
            process.wait()
    ended = ended_tasks(logs[0]) + ended_tasks(logs[1])
    assert set(ended.values()) == {1}  # nothing was done twice
    runs = {f"image, {m}, seed {s}" for m in ("fedavg", "shared-basis") for s in (1, 2)}
    runs |= {"image, arm-no-momentum, seed 1"}
    assert runs <= set(ended)
    _, scenario, method, seed = held[0].split("+")
    assert f"{scenario}, {method}, seed {seed}" in ended_tasks(logs[1])
    assert not (folder / "claims").exists()
    assert (folder / "report" / "index.html").exists()


SUBMITIT = """
from types import SimpleNamespace

helpers = SimpleNamespace(CommandFunction=list)

class AutoExecutor:
    def __init__(self, folder, cluster):
        print(folder, cluster)

    def update_parameters(self, **parameters):
        print(parameters)

    def submit(self, command):
        print(command[3:])
        return SimpleNamespace(job_id="17")
"""


def test_jobs_are_submitted_and_their_cost_is_told_before(content, write, world_cache, tmp_path, monkeypatch):
    """With a stand-in for submitit."""
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "submitit.py").write_text(SUBMITIT)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "library"), *sys.path]))
    recipe = write(content)
    options = ("--slurm", "2", "--slurm-option", "partition=gpu", "-o", "study.workers=3")
    done = fedcmp("study", recipe, *options, cache=world_cache)
    assert done.returncode == 0, done.stderr
    assert re.search(r"6 short runs of tuning, 8 runs \(image 7, iid 1\): about \d+ minutes?, by 2 jobs", done.stderr)
    jobs = tmp_path / "results" / "jobs"
    job = str(["study", str(recipe), "--option", "study.workers=3"])
    assert done.stdout.splitlines() == [
        f"{jobs}/%j slurm",
        str({"name": "fedcmp-small", "cpus_per_task": 3, "timeout_min": 1440, "slurm_partition": "gpu"}),
        *[job] * 2,
        *[f"job 17: {jobs}/17"] * 2,
    ]
    assert not (tmp_path / "results" / "runs").exists()
    for wrong, said in (
        (("--slurm-option", "partition=gpu"), "add --slurm JOBS"),
        (("--slurm", "2", "--pack", "x.jsonl"), "--pack: cannot be written before the jobs have ended"),
    ):
        done = fedcmp("study", recipe, *wrong, cache=world_cache)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert said in done.stderr


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
