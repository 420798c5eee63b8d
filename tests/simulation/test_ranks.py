"""Several processes for one client, started by torchrun as a user would: the run of one process, to rounding."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from fedcmp.cli.main import app
from fedcmp.errors import UserError
from tests.simulation.runner import environment, fedcmp, guard_log, metrics, recipe

METHODS = ["centralized", "fedavg", "shared-basis"]
# AdamW magnifies rounding where a gradient is near 0; the canonical space does so again where singular values are close
TOLERANCE = {"shared-basis": 5e-2}
OTHERWISE = 5e-4


def small(folder: Path, methods: list[str]) -> Path:
    """The tests' recipe with unstretched canonical steps: longer ones magnify rounding beyond any tolerance."""
    path = recipe(folder, methods=methods)
    short = "[method.shared-basis]\nstep_options = { stretch = false }\n" if "shared-basis" in methods else ""
    path.write_text(f"{path.read_text()}\n{short}")
    return path


@pytest.fixture(scope="module")
def alone(tmp_path_factory, world_cache) -> Path:
    """The run of one process."""
    folder = tmp_path_factory.mktemp("alone")
    fedcmp(folder, world_cache, "train", small(folder, METHODS))
    return folder / "runs" / "small"


def launch(folder: Path, cache: Path, options: list[str], *arguments: object) -> subprocess.Popen[str]:
    """`torchrun OPTIONS -m fedcmp ARGUMENTS`."""
    launcher = [sys.executable, "-m", "torch.distributed.run", *options, "-m", "fedcmp", *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(launcher, cwd=folder, env=environment(folder, cache), stdout=pipe, stderr=pipe, text=True)


def finished(process: subprocess.Popen[str], *, code: int = 0) -> str:
    """Its stderr, at its end."""
    out, err = process.communicate(timeout=240)
    assert process.returncode == code, out + err
    return err


def on_two_machines(folder: Path, cache: Path, *arguments: object) -> list[subprocess.Popen[str]]:
    """One launcher a machine with one process each, both machines here."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    where = ["--nnodes", "2", "--nproc-per-node", "1", "--master-addr", "127.0.0.1", "--master-port", str(port)]
    return [launch(folder, cache, [*where, "--node-rank", str(node)], *arguments) for node in range(2)]


def rank_process(launcher: int, rank: int) -> int:
    """The process id of one rank of a launcher on this machine."""
    for child in Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split():
        variables = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        if f"RANK={rank}".encode() in variables:
            return int(child)
    raise AssertionError(f"rank {rank} does not run")


def mistakes(stderr: str) -> list[str]:
    told = [line for line in stderr.splitlines() if line.startswith("fedcmp: ")]
    return [line for line in told if not line.startswith("fedcmp: round ")]  # progress of the method of that name


def difference(first: Path, second: Path) -> float:
    """Between two runs' last projectors, as a share of the first's length."""
    one, other = (
        load_file(sorted((run / "checkpoints").glob("round-*"))[-1] / "projector.safetensors")
        for run in (first, second)
    )
    flat = torch.cat([tensor.flatten() for tensor in one.values()])
    return float((flat - torch.cat([other[name].flatten() for name in one])).norm() / flat.norm())


def assert_same_run(first: Path, second: Path, methods: list[str]) -> None:
    exact = ("kind", "round", "client", "model", "num_examples", "num_pairs", "bytes_sent", "learning_rate")
    for method in methods:
        assert difference(first / method, second / method) < TOLERANCE.get(method, OTHERWISE), method
        before, after = metrics(first / method), metrics(second / method)
        assert [[line.get(key) for key in exact] for line in after] == [
            [line.get(key) for key in exact] for line in before
        ]
        for key in ("loss", "alignment_error", "caption_loss"):
            expected = [line[key] for line in before if key in line]
            assert [line[key] for line in after if key in line] == pytest.approx(expected, rel=2e-3), (method, key)


def features(cache: Path) -> dict[Path, bytes]:
    found = (cache / "features").rglob("*.*")
    notes = ("verified.json",)  # when each machine looked at its own copy
    kept = (path for path in found if path.suffix != ".lock" and path.name not in notes)
    return {path.relative_to(cache): path.read_bytes() for path in kept}


@pytest.mark.slow
def test_a_rank_killed_in_training_and_a_resume_on_two_machines_end_in_the_run_of_one_process(
    alone, tmp_path, world_cache
):
    """The cache is empty, so the ranks fill the feature store together, byte for byte as one process does."""
    path, cache = small(tmp_path, METHODS), tmp_path / "cache"
    launcher = launch(tmp_path, cache, ["--standalone", "--nproc-per-node", "2"], "train", path)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("runs/small/*/checkpoints/round-0001")) and time.monotonic() < deadline:
        assert launcher.poll() is None, launcher.communicate()
        time.sleep(0.01)
    os.kill(rank_process(launcher.pid, 1), signal.SIGKILL)
    begun = time.monotonic()
    told = finished(launcher, code=1)
    assert time.monotonic() - begun < 60
    (line,) = mistakes(told)
    assert "--resume" in line
    assert "another process of the run died" in line or "lost the others" in line

    first, second = on_two_machines(tmp_path, cache, "train", path, "--resume")
    assert not mistakes(finished(first))
    assert not finished(second)  # the other machine says nothing
    assert_same_run(alone, tmp_path / "runs" / "small", METHODS)
    assert features(cache).keys() <= features(world_cache).keys()
    assert all(features(world_cache)[name] == content for name, content in features(cache).items())
    started = guard_log(tmp_path).read_text().splitlines()
    assert sum("-m fedcmp train" in line and "torch.distributed.run" not in line for line in started) == 4


@pytest.mark.slow
@pytest.mark.parametrize("store", ["true", "false"])
def test_three_processes_and_every_kind_of_objective(tmp_path, world_cache, store):
    """Also with features computed in passing, where each rank reads its own pictures only."""
    methods = ["local", "fedprox", "moon", "scaffold", "fedsam"]
    options = ["-o", f"data.feature_store={store}", "-o", "run.cohort=2"]
    one, three = tmp_path / "one", tmp_path / "three"
    fedcmp(one, world_cache, "train", small(one, methods), *options)
    path = small(three, methods)
    told = finished(launch(three, world_cache, ["--standalone", "--nproc-per-node", "3"], "train", path, *options))
    assert not mistakes(told)
    assert_same_run(one / "runs" / "small", three / "runs" / "small", methods)


@pytest.mark.slow
def test_a_users_mistake_is_one_line_whoever_finds_it(tmp_path, world_cache):
    path = recipe(tmp_path, methods=["fedavg"])
    two = ["--standalone", "--nproc-per-node", "2"]
    (line,) = mistakes(finished(launch(tmp_path, world_cache, two, "train", path, "-o", "federation.turns=2"), code=1))
    assert "federation.turns: unknown key" in line
    stopped = launch(tmp_path, world_cache, two, "train", path, "-o", "model.device=cuda:1")
    (line,) = mistakes(finished(stopped, code=1))
    assert "model.device = 'cuda:1': 2 processes train a client together" in line
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_first_rank_that_is_killed_is_told_of_by_another(tmp_path, world_cache):
    path = recipe(tmp_path, methods=["fedavg"])
    three, longer = ["--standalone", "--nproc-per-node", "3"], ["-o", "federation.rounds=40"]
    launcher = launch(tmp_path, world_cache, three, "train", path, *longer)
    while not list(tmp_path.glob("runs/small/checkpoints/round-0001")):
        assert launcher.poll() is None, launcher.communicate()
        time.sleep(0.01)
    os.kill(rank_process(launcher.pid, 0), signal.SIGKILL)
    (line,) = mistakes(finished(launcher, code=1))
    assert "--resume" in line


@pytest.mark.slow
def test_ctrl_c_at_the_launcher_leaves_a_run_that_can_be_resumed(alone, tmp_path, world_cache):
    path, two = small(tmp_path, METHODS), ["--standalone", "--nproc-per-node", "2"]
    launcher = launch(tmp_path, world_cache, two, "train", path)
    while not list(tmp_path.glob("runs/small/*/checkpoints/round-0001")):
        assert launcher.poll() is None, launcher.communicate()
        time.sleep(0.01)
    launcher.send_signal(signal.SIGINT)
    launcher.communicate(timeout=60)
    finished(launch(tmp_path, world_cache, two, "train", path, "--resume"))
    assert_same_run(alone, tmp_path / "runs" / "small", METHODS)


def test_other_verbs_are_refused_in_several_processes(monkeypatch):
    variables = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "9"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    done = CliRunner().invoke(app, ["methods"])
    assert isinstance(done.exception, UserError)
    assert "only `train` runs in several processes" in str(done.exception)


def test_a_run_without_a_launcher_is_started_as_a_module_too():
    done = subprocess.run([sys.executable, "-m", "fedcmp", "--version"], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("fedcmp ")
