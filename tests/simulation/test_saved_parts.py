"""`run.save_seconds`: a run that is really killed in the middle of a client's part continues there, to the bit."""

import signal
import subprocess
import time

import pytest

from tests.simulation.runner import command, environment, fedcmp, last_projector, metrics, recipe

OPTIONS = ["-o", "run.save_seconds=0.001", "-o", "training.batch_size=2"]
METHOD = "shared-basis"


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_a_part_is_continued_after_sigkill(tmp_path, world_cache, workers):
    path = recipe(tmp_path, methods=[METHOD], workers=workers)
    started = subprocess.Popen(
        command("train", path, *OPTIONS),
        cwd=tmp_path,
        env=environment(tmp_path, world_cache),
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    run = tmp_path / "runs" / "small"
    while not list(run.glob("clients/*/part.safetensors")):
        assert started.poll() is None, "the run ended before it could be killed"
        time.sleep(0.002)
    started.send_signal(signal.SIGKILL)
    started.wait()
    time.sleep(1.5)  # its workers see that it is gone
    saved = list(run.glob("clients/*/part.safetensors"))
    fedcmp(tmp_path, world_cache, "train", path, "--resume", *OPTIONS)
    whole = tmp_path / "whole"
    fedcmp(whole, world_cache, "train", recipe(whole, methods=[METHOD], workers=workers), *OPTIONS[2:])
    assert saved
    assert last_projector(run) == last_projector(whole / "runs" / "small")
    assert metrics(run) == metrics(whole / "runs" / "small")
    assert not list(run.glob("clients/*/part.safetensors"))
