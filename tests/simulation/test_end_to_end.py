"""The command as a user types it, on the embedded world, with sockets to other hosts blocked."""

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from fedcmp.workers.processes import can_split
from tests.simulation.runner import (
    EXIT_CODE_OF_THE_GUARD,
    command,
    environment,
    fedcmp,
    guard_log,
    last_projector,
    metrics,
    recipe,
)

METHODS = ["local", "centralized", "fedavg", "fedcmp"]
SEED = 20  # of the moments at which runs are killed


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
    for method in ["fedavg", "fedcmp", "centralized", "local", "blind"]:
        assert method in done.stdout
    page = run / "report" / "index.html"
    assert str(Path("runs") / "small" / "report" / "index.html") in done.stdout
    assert page.stat().st_size > 10_000
    assert "http" not in "".join(part for part in page.read_text().split('"') if part.endswith((".js", ".css", ".png")))
    assert "round 3/3" in done.stderr
    assert "s left" in done.stderr


def test_sockets_were_guarded_in_the_command_and_in_its_workers(reference):
    started = guard_log(reference[0].parent.parent).read_text().splitlines()
    assert sum("-m fedcmp train" in line for line in started) == 1
    worker = "-m fedcmp.workers.child fedcmp.simulation.handler:serve_engine"
    assert sum(worker in line for line in started) == (1 if can_split() else 2)


@pytest.mark.parametrize(
    ("call", "code"),
    [
        ("socket.create_connection(('192.0.2.1', 80), 1)", EXIT_CODE_OF_THE_GUARD),
        ("socket.socket().connect_ex(('192.0.2.1', 80))", EXIT_CODE_OF_THE_GUARD),
        ("socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 53))", EXIT_CODE_OF_THE_GUARD),
        ("socket.getaddrinfo('example.org', 80)", EXIT_CODE_OF_THE_GUARD),
        ("socket.socket().connect_ex(('127.0.0.1', 9))", 0),
    ],
)
def test_the_guard_ends_a_process_that_reaches_for_another_host(tmp_path, call, code):
    """Else the test above proves nothing."""
    program = [sys.executable, "-c", f"import socket; {call}"]
    done = subprocess.run(program, env=environment(tmp_path, tmp_path), capture_output=True, timeout=60)
    assert done.returncode == code


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


def test_references_are_the_same_for_all_methods_and_the_last_model_is_judged_on_shuffled_images_too(reference):
    run, _ = reference
    lines = {m: [line for line in metrics(run / m) if line["kind"] == "evaluation"] for m in METHODS}
    assert [line["model"] for line in lines["fedavg"][:2]] == ["blind", "initial"]
    assert all(found[:2] == lines["fedavg"][:2] for found in lines.values())
    for method, found in lines.items():
        measured = {line["round"] for line in found if line.get("shuffled_loss") is not None}
        assert measured == {3}, method
        assert all(line["shuffled_loss"] != line["caption_loss"] for line in found if line["round"] == 3)


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


def training_seconds(run: Path) -> float:
    """How long the reference trained: from its first method's beginning to the last record."""
    begun = min(path.stat().st_mtime for path in run.glob("*/recipe.toml"))
    return max(path.stat().st_mtime for path in run.glob("*/metrics.jsonl")) - begun


def written(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.glob("runs/small/*/metrics.jsonl")}


def interrupted(
    folder: Path, cache: Path, path: Path, number: int, *, seconds: float = 0.0, preparing: bool = False
) -> subprocess.CompletedProcess[str]:
    """Start or resume the run and send it a signal.

    Args:
        number: the signal.
        seconds: how long after it has begun to train; at the latest when a method ends its last round but one.
        preparing: send it as soon as something is in the cache instead.
    """
    begun = any((folder / "runs" / name).exists() for name in ("small", ".small.preparing"))
    arguments = ["train", path, *(["--resume"] if begun else [])]
    process = subprocess.Popen(
        command(*arguments),
        cwd=folder,
        env=environment(folder, cache),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # tests in the background ignore Ctrl-C
    )
    before = written(folder)

    def wait(until: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not until() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)

    if preparing:
        wait(lambda: any(cache.rglob("*")), 120)
    else:
        wait(lambda: written(folder) != before, 120)
        wait(lambda: bool(list(folder.glob("runs/small/*/checkpoints/round-0002"))), seconds)
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


@pytest.mark.slow
def test_a_run_killed_while_preparing_and_while_training_resumes_to_the_same_end(reference, tmp_path):
    """With an empty cache, so that the first kill leaves an unfinished one."""
    path, cache = recipe(tmp_path, methods=METHODS, workers=2), tmp_path / "cache"
    killed = interrupted(tmp_path, cache, path, signal.SIGKILL, preparing=True)
    assert killed.returncode == -signal.SIGKILL
    assert not written(tmp_path)
    moment = random.Random(SEED).uniform(0.2, 0.9) * training_seconds(reference[0])
    print(f"seed {SEED}: killed after {moment:.2f} s of training")
    killed = interrupted(tmp_path, cache, path, signal.SIGKILL, seconds=moment)
    assert killed.returncode == -signal.SIGKILL
    assert written(tmp_path)
    fedcmp(tmp_path, cache, "train", path, "--resume")
    assert_same_run(reference[0], tmp_path / "runs" / "small")


@pytest.mark.slow
def test_a_run_killed_again_and_again_resumes_to_the_same_end(reference, tmp_path, world_cache):
    """At any moment from the start of the process on; late ones may find it finished."""
    path, moments = recipe(tmp_path, methods=METHODS, workers=2), random.Random(SEED)
    training, codes = training_seconds(reference[0]), []
    print(f"seed {SEED}, training takes {training:.2f} s")
    for _ in range(12):
        killed = interrupted(tmp_path, world_cache, path, signal.SIGKILL, seconds=moments.uniform(0, 0.5) * training)
        codes.append(killed.returncode)
    assert set(codes) <= {0, -signal.SIGKILL}
    assert codes.count(-signal.SIGKILL) >= 2, codes
    fedcmp(tmp_path, world_cache, "train", path, "--resume")
    assert_same_run(reference[0], tmp_path / "runs" / "small")


@pytest.mark.slow  # tests/cli/test_cli.py sends SIGTERM to a command that does less
@pytest.mark.parametrize(
    ("workers", "number", "code"),
    [(1, signal.SIGINT, 130), (2, signal.SIGINT, 130), (2, signal.SIGTERM, 143)],
)
def test_ctrl_c_and_sigterm_leave_a_run_that_can_be_resumed(reference, tmp_path, world_cache, workers, number, code):
    path = recipe(tmp_path, methods=METHODS, workers=workers)
    half = training_seconds(reference[0]) / 2
    stopped = interrupted(tmp_path, world_cache, path, number, seconds=half)
    assert stopped.returncode == code, stopped.stderr
    assert "--resume" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert "BrokenPipe" not in stopped.stderr
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
    judged = json.loads(fedcmp(tmp_path, world_cache, "evaluate", run / "fedavg", "--json").stdout)
    last = [line for line in metrics(run / "fedavg") if line["kind"] == "evaluation"][-1]
    assert judged["global"]["caption_loss"] == pytest.approx(last["caption_loss"], rel=1e-4)
    assert judged["global"]["question_accuracy"] == pytest.approx(last["question_accuracy"])
    assert judged["global"]["shuffled_loss"] == pytest.approx(last["shuffled_loss"], rel=1e-4)
    assert "shuffled_loss" not in judged["blind"]
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
        (["train", "small.toml", "--resume"], "no run is there to resume"),
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
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_run_that_breaks_down_says_which_client_and_what_to_do(tmp_path, world_cache):
    path = recipe(tmp_path, methods=["fedavg"])
    done = fedcmp(tmp_path, world_cache, "train", path, "-o", "training.learning_rate=1e30", code=2)
    assert "fedavg, round 1, client 0 (client-0): " in done.stderr
    assert "a lower learning rate may help" in done.stderr
    assert "Traceback" not in done.stderr
