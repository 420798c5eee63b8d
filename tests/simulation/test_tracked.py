"""run.track on a real run: the command, killed or not, ends with the curves that its records say."""

import json
import subprocess
import sys

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fedcmp.config import load_recipe
from fedcmp.errors import UserError
from fedcmp.simulation.train import train
from tests.simulation.runner import environment, fedcmp, recipe

METHODS = ["shared-basis", "fedcmp"]
TRACK = ("-o", 'run.track=["tensorboard"]')


def curves(folder):
    read = EventAccumulator(str(folder / "tensorboard"))
    read.Reload()
    return {tag: [(event.step, event.value) for event in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


@pytest.fixture(scope="module")
def run(tmp_path_factory, world_cache):
    folder = tmp_path_factory.mktemp("tracked")
    path = recipe(folder, methods=METHODS)
    fedcmp(folder, world_cache, "train", path, *TRACK, "-o", "federation.rounds=2")
    return folder / "runs" / "small"


def test_every_curve_that_was_promised_is_there(run):
    for method, first in (("shared-basis", 1), ("fedcmp", 2)):  # the opening round comes before round 1
        found = curves(run / method)
        lines = [json.loads(line) for line in (run / method / "metrics.jsonl").read_text().splitlines()]
        for client in range(3):
            losses = [line["loss"] for line in lines if line["kind"] == "client" and line["client"] == client]
            assert [value for _, value in found[f"train_loss/client-{client}"]] == pytest.approx(losses)
            for name in ("throughput", "alignment_error", "weight", "update_norm"):
                assert [step for step, _ in found[f"{name}/client-{client}"]] == [1, 2]
        judged = [line["caption_loss"] for line in lines if line.get("model") in ("initial", "global")]
        assert [step for step, _ in found["eval/caption_loss"]] == [0, 1, 2]
        assert [value for _, value in found["eval/caption_loss"]] == pytest.approx(judged)
        for name in ("eval/worst_group_loss", "eval/question_accuracy"):
            assert [step for step, _ in found[name]] == [0, 1, 2]
        assert [step for step, _ in found["round/bytes_sent"]] == [1, 2]
        for layer in ("linear_1.weight", "linear_2.weight"):
            for name in ("drift_d", "momentum_b"):
                assert [step for step, _ in found[f"{name}/{layer}"]] == list(range(first, 3)), (method, name)


def test_nothing_is_imported_or_written_unless_asked(tmp_path, world_cache):
    path = recipe(tmp_path, methods=["fedavg"])
    program = (
        "import sys; from fedcmp.cli import main as cli\n"
        "sys.argv = ['fedcmp', 'train', 'small.toml', '-o', 'federation.rounds=1']\n"
        "try:\n    cli.app()\nexcept SystemExit:\n    pass\n"
        "print(sorted({'tensorboard', 'wandb', 'trackio'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=path.parent,
        env=environment(tmp_path, world_cache),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
    assert not {"tensorboard", "tracking.json"} & {entry.name for entry in (tmp_path / "runs" / "small").iterdir()}


def test_a_finished_runs_curves_can_be_written_again(run, tmp_path, world_cache):
    before = curves(run / "shared-basis")
    done = fedcmp(tmp_path, world_cache, "track", run)
    assert [line.partition("small/")[2] for line in done.stdout.splitlines()] == sorted(METHODS)
    assert curves(run / "shared-basis") == before


def test_a_missing_tracker_stops_the_run_before_anything_is_prepared(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda module: None)
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    path = recipe(tmp_path, methods=["fedavg"])
    folder, cache = f"run.folder={tmp_path / 'runs'}", f"run.cache={tmp_path / 'cache'}"
    loaded = load_recipe(path, ['run.track=["wandb"]', folder, cache])
    with pytest.raises(UserError, match="pip install wandb"):
        train(loaded, progress=lambda what, done, total: None)
    assert not (tmp_path / "runs").exists()
    assert not (tmp_path / "cache").exists()
