"""The command as a user types it, on the embedded world, with sockets to other hosts blocked."""

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.simulation.runner import command, environment, fedcmp, last_projector, metrics, recipe

METHODS = ["local", "centralized", "fedavg", "fedcmp-published"]


@pytest.fixture(scope="module")
def reference(tmp_path_factory, world_cache):
    """An uninterrupted run with two workers; its folder and what was printed."""
    folder = tmp_path_factory.mktemp("reference")
    path = recipe(folder, methods=METHODS, workers=2)
    done = fedcmp(folder, world_cache, "train", path)
    return folder / "runs" / "small", done


def assert_same_run(first: Path, second: Path) -> None:
    for method in METHODS:
        assert last_projector(first / method) == last_projector(second / method), method
        assert metrics(first / method) == metrics(second / method), method


def test_the_main_job_ends_in_a_table_and_names_its_report(reference):
    run, done = reference
    for method in ["fedavg", "fedcmp-published", "centralized", "local", "blind"]:
        assert method in done.stdout
    page = run / "report" / "index.html"
    assert str(Path("runs") / "small" / "report" / "index.html") in done.stdout
    assert page.stat().st_size > 10_000
    assert "http" not in "".join(part for part in page.read_text().split('"') if part.endswith((".js", ".css", ".png")))
    assert "round 3/3" in done.stderr
    assert "s left" in done.stderr


def test_a_runs_folder_is_as_documented(reference):
    run, _ = reference
    for method in METHODS:
        folder = run / method
        assert {"recipe.toml", "metrics.jsonl", "checkpoints", "samples.json", "samples"} <= {
            p.name for p in folder.iterdir()
        }
        last = folder / "checkpoints" / "round-0003"
        assert {p.name for p in last.iterdir()} == {"projector.safetensors", "server.safetensors", "state.json"}
        lines = metrics(folder)
        learners = 1 if method == "centralized" else 3
        assert sum(line["kind"] == "client" for line in lines) == 3 * learners
        assert lines[-1]["kind"] == "finished"
    names = set(load_file(run / "fedavg" / "checkpoints" / "round-0003" / "projector.safetensors"))
    assert names == {"linear_1.weight", "linear_1.bias", "linear_2.weight", "linear_2.bias"}


def test_bytes_sent_are_those_of_the_projectors(reference):
    run, _ = reference
    one_way = sum(
        t.numel() * t.element_size()
        for t in load_file(run / "fedavg/checkpoints/round-0003/projector.safetensors").values()
    )
    rounds = [line for line in metrics(run / "fedavg") if line["kind"] == "round"]
    assert [line["bytes_sent"] for line in rounds] == [2 * 3 * one_way] * 3


def test_all_methods_saw_the_same_pairs_once(reference):
    run, _ = reference
    counts = {}
    for method in METHODS:
        counts[method] = sum(line["num_examples"] for line in metrics(run / method) if line["kind"] == "client")
    assert set(counts.values()) == {240}


def test_fedavg_is_the_weighted_mean_of_what_the_clients_sent(reference):
    """Weights in the metrics are n_k / n."""
    run, _ = reference
    for number in (1, 2, 3):
        lines = [line for line in metrics(run / "fedavg") if line["kind"] == "client" and line["round"] == number]
        total = sum(line["num_examples"] for line in lines)
        assert [line["weight"] for line in lines] == pytest.approx([line["num_examples"] / total for line in lines])


def test_results_do_not_depend_on_the_number_of_workers(reference, tmp_path, world_cache):
    run, _ = reference
    fedcmp(tmp_path, world_cache, "train", recipe(tmp_path, methods=METHODS, workers=1))
    assert_same_run(run, tmp_path / "runs" / "small")


def killed_at(
    folder: Path, cache: Path, path: Path, seconds: float, signal_number: int
) -> subprocess.CompletedProcess[str]:
    """Start or resume the run, and send a signal after `seconds`, or once it has begun to write rounds."""
    arguments = ["train", path, *(["--resume"] if (folder / "runs" / "small" / "recipe.toml").exists() else [])]
    process = subprocess.Popen(
        command(*arguments),
        cwd=folder,
        env=environment(folder, cache),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while (
        not list(folder.glob("runs/small/*/metrics.jsonl")) and process.poll() is None and time.monotonic() < deadline
    ):
        time.sleep(0.02)
    time.sleep(seconds)
    process.send_signal(signal_number)
    out, err = process.communicate(timeout=120)
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


def kill_and_resume(reference: Path, folder: Path, cache: Path, moments: list[float]) -> None:
    path = recipe(folder, methods=METHODS, workers=2)
    for moment in moments:
        killed_at(folder, cache, path, moment, signal.SIGKILL)
    fedcmp(folder, cache, "train", path, "--resume")
    assert_same_run(reference, folder / "runs" / "small")


def test_a_killed_run_resumes_to_the_same_end(reference, tmp_path, world_cache):
    moments = random.Random(os.getpid())
    kill_and_resume(reference[0], tmp_path, world_cache, [moments.uniform(4, 9) for _ in range(2)])


@pytest.mark.slow
def test_a_run_killed_again_and_again_resumes_to_the_same_end(reference, tmp_path, world_cache):
    moments = random.Random(1)
    kill_and_resume(reference[0], tmp_path, world_cache, [moments.uniform(0, 10) for _ in range(12)])


def test_ctrl_c_leaves_a_run_that_can_be_resumed(reference, tmp_path, world_cache):
    path = recipe(tmp_path, methods=METHODS, workers=2)
    stopped = killed_at(tmp_path, world_cache, path, 5, signal.SIGINT)
    assert stopped.returncode == 130
    assert "--resume" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    fedcmp(tmp_path, world_cache, "train", path, "--resume")
    assert_same_run(reference[0], tmp_path / "runs" / "small")


def test_a_finished_run_is_not_run_again(reference, world_cache):
    run, _ = reference
    folder = run.parent.parent
    refused = fedcmp(folder, world_cache, "train", folder / "small.toml", code=2)
    assert "--resume" in refused.stderr
    assert "--overwrite" in refused.stderr
    before = metrics(run / "fedavg")
    fedcmp(folder, world_cache, "train", folder / "small.toml", "--resume")
    assert metrics(run / "fedavg") == before
    changed = fedcmp(
        folder, world_cache, "train", folder / "small.toml", "--resume", "-o", "training.learning_rate=0.5", code=2
    )
    assert "training.learning_rate" in changed.stderr


def test_a_run_can_be_judged_exported_and_reported(reference, tmp_path, world_cache):
    run, _ = reference
    judged = json.loads(fedcmp(tmp_path, world_cache, "evaluate", run / "fedavg").stdout)
    last = [line for line in metrics(run / "fedavg") if line["kind"] == "evaluation"][-1]
    assert judged["global"]["caption_loss"] == pytest.approx(last["caption_loss"], rel=1e-4)
    assert judged["global"]["question_accuracy"] == pytest.approx(last["question_accuracy"])
    fedcmp(tmp_path, world_cache, "export", run / "fedavg", tmp_path / "llava")
    assert (tmp_path / "llava" / "model.safetensors").exists()
    again = fedcmp(tmp_path, world_cache, "export", run / "fedavg", tmp_path / "llava", code=2)
    assert "holds a model already" in again.stderr
    unnamed = fedcmp(tmp_path, world_cache, "export", run, tmp_path / "other", code=2)
    assert "name one of them" in unnamed.stderr
    fedcmp(tmp_path, world_cache, "report", run, "--out", tmp_path / "page")
    assert (tmp_path / "page" / "tables.md").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "none.toml"], "none.toml: no such recipe file"),
        (["train", "small.toml", "-o", "federation.turns=2"], "federation.turns: unknown key"),
        (["train", "small.toml", "-o", "federation.rounds=two"], "federation.rounds"),
        (["train", "small.toml", "-o", 'run.methods=["fedavgg"]'], "did you mean fedavg"),
        (["train", "small.toml", "-o", "federation.rounds=100"], "fewer than federation.rounds = 100"),
        (["train", "small.toml", "-o", "model.language=./nowhere"], "model.language = './nowhere': no such folder"),
        (["train", "small.toml", "--resume", "--overwrite"], "exclude each other"),
        (["report", "nowhere"], "nowhere"),
        (["evaluate", "nowhere"], "nowhere"),
    ],
)
def test_a_users_mistake_is_one_line_and_leaves_nothing(tmp_path, world_cache, arguments, message):
    recipe(tmp_path, methods=["fedavg"])
    done = fedcmp(tmp_path, world_cache, *arguments, code=2)
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("fedcmp: ")]
    assert len(said) == 1
    assert not list(tmp_path.glob("runs/*/metrics.jsonl"))
