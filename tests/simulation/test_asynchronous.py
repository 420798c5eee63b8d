"""Asynchronous runs and virtual clocks as a user types them, also really killed."""

import json
import signal
import subprocess
import time

import pytest

from tests.simulation.runner import command, environment, fedcmp, last_projector, metrics, recipe

SECONDS = "scenario.client_seconds=[1.0, 2.5, 10.0]"
ASYNC = ["-o", 'federation.mode="async"', "-o", "federation.buffer_size=2", "-o", SECONDS]


def rounds(run):
    return [line for line in metrics(run) if line["kind"] == "round"]


@pytest.mark.slow
def test_an_asynchronous_run_reports_exports_and_resumes_when_it_is_finished(tmp_path, world_cache):
    path = recipe(tmp_path, methods=["fedavg", "local"])
    done = fedcmp(tmp_path, world_cache, "train", path, *ASYNC)
    run = tmp_path / "runs" / "small" / "fedavg"
    assert "part 9/9" in done.stderr
    merged = rounds(run)
    assert [line["round"] for line in merged] == [1, 2, 3, 4, 5]
    assert merged[-1]["clock"] == 30.0
    assert max(line["diagnostics"]["staleness_max"] for line in merged) >= 1
    (begun,) = (line for line in metrics(run) if line["kind"] == "run")
    assert begun["rounds"] == 5
    assert "clock" not in rounds(tmp_path / "runs" / "small" / "local")[0]
    before = (run / "metrics.jsonl").read_bytes()
    again = fedcmp(tmp_path, world_cache, "train", path, *ASYNC, "--resume")
    assert (run / "metrics.jsonl").read_bytes() == before
    assert "Traceback" not in again.stderr
    exported = fedcmp(tmp_path, world_cache, "export", run, "out")
    assert "not finished" not in exported.stderr


@pytest.mark.slow
def test_synchronous_rounds_on_a_virtual_clock_wait_for_the_slowest_or_the_deadline(tmp_path, world_cache):
    path = recipe(tmp_path, methods=["fedavg"])
    fedcmp(tmp_path, world_cache, "train", path, "-o", SECONDS)
    run = tmp_path / "runs" / "small"
    assert [line["clock"] for line in rounds(run)] == [10.0, 20.0, 30.0]
    plain = tmp_path / "plain"
    fedcmp(plain, world_cache, "train", recipe(plain, methods=["fedavg"]))
    assert last_projector(run) == last_projector(plain / "runs" / "small")
    closed = tmp_path / "closed"
    path = recipe(closed, methods=["fedavg"])
    fedcmp(closed, world_cache, "train", path, "-o", SECONDS, "-o", "federation.deadline=4")
    lines = rounds(closed / "runs" / "small")
    assert [(line["clock"], line["missing"]) for line in lines] == [(4.0 * n, ["client-2"]) for n in (1, 2, 3)]


@pytest.mark.slow
def test_clients_that_are_really_slow_hold_nobody_up(tmp_path, world_cache):
    path = recipe(tmp_path, methods=["fedavg"], workers=3)
    options = [*ASYNC[:-1], "scenario.client_seconds=[0.2, 0.2, 6.0]", "-o", 'scenario.clock="real"']
    options += ["-o", "federation.rounds=2"]
    fedcmp(tmp_path, world_cache, "train", path, *options)
    run = tmp_path / "runs" / "small"
    lines = [line for line in metrics(run) if line["kind"] == "client"]
    assert sorted((line["client"], line["part"]) for line in lines) == [(c, p) for c in range(3) for p in (1, 2)]
    late = [line["staleness"] for line in lines if line["client"] == 2]
    assert late[0] >= 1
    assert rounds(run)[-1]["clock"] >= 12.0


def test_what_cannot_be_asynchronous_is_refused_before_the_run(tmp_path, world_cache):
    path = recipe(tmp_path, methods=["fedavg", "shared-basis"])
    refused = fedcmp(tmp_path, world_cache, "train", path, *ASYNC, code=2)
    assert "shared-basis needs synchronous rounds" in refused.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["moon", "fedadam"])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_that_is_really_killed_again_and_again_ends_with_the_same_bits(tmp_path, world_cache, method, workers):
    """SIGKILL after 1, 3, 5 and 7 of 9 replies."""
    path = recipe(tmp_path, methods=[method], workers=workers)
    run = tmp_path / "runs" / "small"
    kills = 0
    for replies in (1, 3, 5, 7):
        resume = ["--resume"] if run.exists() else []
        started = subprocess.Popen(
            command("train", path, *ASYNC, *resume),
            cwd=tmp_path,
            env=environment(tmp_path, world_cache),
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        while received(run) < replies and started.poll() is None:
            time.sleep(0.002)
        kills += started.poll() is None
        started.send_signal(signal.SIGKILL)
        started.wait()
        time.sleep(1.5)  # its workers see that it is gone
    fedcmp(tmp_path, world_cache, "train", path, *ASYNC, "--resume")
    whole = tmp_path / "whole"
    fedcmp(whole, world_cache, "train", recipe(whole, methods=[method], workers=workers), *ASYNC)
    assert kills >= 3
    assert last_projector(run) == last_projector(whole / "runs" / "small")
    assert metrics(run) == metrics(whole / "runs" / "small")


def received(run):
    """Replies that are merged in a checkpoint, or wait for one."""
    states = sorted(run.glob("checkpoints/round-*/state.json"))
    try:
        merged = 2 * json.loads(states[-1].read_text())["round"] if states else 0
        waiting = [path for path in run.glob("waiting/version-*/*.safetensors") if not path.name.startswith(".")]
    except (OSError, ValueError):
        return 0
    return merged + len(waiting)
