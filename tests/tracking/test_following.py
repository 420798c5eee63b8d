"""Curves from metrics.jsonl: written once however often a run is interrupted, and read back by TensorBoard itself."""

import functools
import json
import sys
import types
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fedcmp.config import Recipe, dump_recipe
from fedcmp.errors import UserError
from fedcmp.runs.folder import RunFolder
from fedcmp.runs.records import AnyRecord, ClientRound, Evaluation
from fedcmp.tracking.following import Follower, track_run
from fedcmp.tracking.trackers import require_trackers


def begun(folder: Path, method: str = "fedavg") -> RunFolder:
    run = RunFolder(folder)
    run.begin(dump_recipe(Recipe.model_validate({"run": {"methods": [method]}, "data": {"num_pairs": 10}})))
    return run


def round_lines(number: int, loss: float) -> list[AnyRecord]:
    client = ClientRound.from_line({"round": number, "client": 0, "client_name": "a", "loss": loss})
    evaluation = Evaluation.from_line({"round": number, "model": "global", "caption_loss": loss / 2})
    return [client, evaluation]


def curve(folder: Path, tag: str) -> list[tuple[int, float]]:
    read = EventAccumulator(str(folder / "tensorboard"))
    read.Reload()
    return [(event.step, event.value) for event in read.Scalars(tag)]


def test_tensorboard_reads_the_points_as_they_come(tmp_path):
    run = begun(tmp_path)
    follower = Follower(run, ["tensorboard"])
    run.log(round_lines(1, 2.0))
    follower.update()
    assert curve(tmp_path, "train_loss/a") == [(1, 2.0)]
    run.log(round_lines(2, 1.5))
    follower.update()
    follower.close()
    assert curve(tmp_path, "train_loss/a") == [(1, 2.0), (2, 1.5)]
    assert curve(tmp_path, "eval/caption_loss") == [(1, 1.0), (2, 0.75)]


def test_a_resumed_run_goes_on_without_doubled_or_lost_points(tmp_path):
    run = begun(tmp_path)
    run.log(round_lines(1, 2.0))
    kept = run.metrics.read_bytes()
    killed = Follower(run, ["tensorboard"])
    run.log(round_lines(2, 9.0))  # of a round that was not saved
    killed.update()
    run.metrics.write_bytes(kept)
    follower = Follower(run, ["tensorboard"])
    for number, loss in ((2, 1.5), (3, 1.25)):
        run.log(round_lines(number, loss))
        follower.update()
    follower.close()
    killed.close()
    assert curve(tmp_path, "train_loss/a") == [(1, 2.0), (2, 1.5), (3, 1.25)]


class Remote:
    """What wandb and trackio look like from here."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.opened: list[dict[str, object]] = []
        self.logged: list[tuple[int, dict[str, float]]] = []  # on its way
        self.arrived: list[tuple[int, dict[str, float]]] = []
        self.known: set[tuple[object, int]] = set()
        self.finished = 0
        self.broken = False

    def init(self, **options: object) -> types.SimpleNamespace:
        if self.broken:
            raise RuntimeError("api_key not configured")
        self.opened.append(options)
        log = functools.partial(self.log, options.get("id"))
        return types.SimpleNamespace(log=log, finish=self.finish)

    def log(self, run: object, values: dict[str, float], step: int, **options: object) -> None:
        if self.broken:
            raise ConnectionError("no route to host\nat line 1")
        assert options == ({"commit": True} if self.name == "wandb" else {})
        if self.name == "trackio" or (run, step) not in self.known:
            self.logged.append((step, values))  # Weights & Biases leaves out a step of a run that it has
            self.known.add((run, step))

    def finish(self) -> None:
        self.finished += 1
        self.arrived, self.logged = self.arrived + self.logged, []

    def killed(self) -> None:
        """What was on its way is gone with the process."""
        self.logged, self.known = [], set()


@pytest.fixture(params=["wandb", "trackio"])
def remote(request, monkeypatch):
    fake = Remote(request.param)
    module = types.ModuleType(fake.name)
    module.init = fake.init
    monkeypatch.setitem(sys.modules, fake.name, module)
    return fake


def test_a_remote_tracker_gets_each_step_once_over_a_resume(tmp_path, remote):
    run = begun(tmp_path)
    run.log(round_lines(1, 2.0))
    first = Follower(run, [remote.name])
    first.update()
    run.log(round_lines(2, 1.5))
    first.update()
    first.update()
    first.close()
    resumed = Follower(run, [remote.name])
    run.log(round_lines(3, 1.25))
    resumed.update()
    resumed.close()
    assert [step for step, _ in remote.arrived] == [1, 2, 3]
    assert remote.arrived[0][1] == {"train_loss/a": 2.0, "eval/caption_loss": 1.0}
    assert all(opened == remote.opened[0] for opened in remote.opened)  # the same run, under the same id
    assert remote.opened[0]["resume"] == "allow"
    assert remote.finished == (2 if remote.name == "wandb" else 3)  # trackio after every round
    assert track_run(tmp_path, [remote.name]) == [tmp_path]
    assert len(remote.arrived) == 3


@pytest.mark.parametrize("rounds", [1, 2])
def test_a_killed_run_neither_doubles_nor_loses_points(tmp_path, remote, rounds):
    """What a killed process had not handed over is sent by the resumed run, the rest not again."""
    run = begun(tmp_path)
    killed = Follower(run, [remote.name])
    for number in range(1, rounds + 1):
        run.log(round_lines(number, 2.0))
        killed.update()
    remote.killed()
    resumed = Follower(run, [remote.name])
    for number in range(rounds + 1, 4):
        run.log(round_lines(number, 1.0))
        resumed.update()
    resumed.close()
    assert [step for step, _ in remote.arrived] == [1, 2, 3]


def test_a_command_that_could_not_send_says_so(tmp_path, remote):
    run = begun(tmp_path)
    run.log(round_lines(1, 2.0))
    broken = remote.log

    def fails(*arguments: object, **options: object) -> None:
        raise ConnectionError("no route to host\nat line 1")

    remote.log = fails
    with pytest.raises(
        UserError, match=rf"{remote.name} did not take all points \(no route to host\): give the"
    ) as told:
        track_run(tmp_path, [remote.name])
    assert "\n" not in str(told.value)
    remote.log = broken
    track_run(tmp_path, [remote.name])
    assert [step for step, _ in remote.arrived] == [1]


def test_a_new_run_of_the_same_name_has_curves_of_its_own(tmp_path, remote):
    for folder in ("one", "two"):
        begun(tmp_path / folder).log(round_lines(1, 2.0))
        track_run(tmp_path / folder, [remote.name])
    one, two = (json.loads((tmp_path / folder / "tracking.json").read_text())["id"] for folder in ("one", "two"))
    assert one != two
    assert len(remote.arrived) == 2


def test_no_path_of_data_is_sent(tmp_path, remote):
    content = {
        "data": {"format": "llava", "pairs": "/private/pairs.json", "images": "/private/images"},
        "scenario": {"kind": "manifest", "manifest": "/private/manifest"},
    }
    run = RunFolder(tmp_path)
    run.begin(dump_recipe(Recipe.model_validate(content)))
    Follower(run, [remote.name]).close()
    assert remote.opened[0]["config"]["training"]["batch_size"] == 16
    assert "/private" not in str({key: value for key, value in remote.opened[0].items() if key != "dir"})


def test_a_tracker_that_fails_on_the_way_does_not_stop_the_run(tmp_path, remote, caplog):
    run = begun(tmp_path)
    follower = Follower(run, [remote.name, "tensorboard"])
    for number, loss in ((1, 2.0), (2, 1.5), (3, 1.25)):
        remote.broken = number > 1
        run.log(round_lines(number, loss))
        follower.update()
    follower.close()
    assert len(caplog.messages) == 1
    assert f"fedcmp track {tmp_path} --to {remote.name}" in caplog.messages[0]
    assert [step for step, _ in curve(tmp_path, "train_loss/a")] == [1, 2, 3]
    remote.broken = False
    track_run(tmp_path, [remote.name])
    assert [step for step, _ in remote.arrived] == [1, 2, 3]


def test_a_tracker_that_cannot_start_is_the_users_to_mend(tmp_path, remote):
    remote.broken = True
    with pytest.raises(UserError, match=rf"run\.track: {remote.name} cannot start \(api_key not configured\)"):
        Follower(begun(tmp_path), [remote.name])


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_missing_package_is_named_with_its_command(monkeypatch, name):
    monkeypatch.setattr("importlib.util.find_spec", lambda module: None)
    monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(UserError, match=f"{name} is not installed: pip install {name}"):
        require_trackers([name])


def test_an_unknown_tracker_and_a_folder_without_a_run_are_refused(tmp_path):
    with pytest.raises(UserError, match="is not a run's folder"):
        track_run(tmp_path, ["tensorboard"])
    with pytest.raises(UserError, match="nowhere: no such folder; name a run's folder"):
        track_run(tmp_path / "nowhere", ["tensorboard"])
    begun(tmp_path)
    with pytest.raises(UserError, match="--to mlflow: no such tracker; there are tensorboard, wandb, trackio"):
        track_run(tmp_path, ["mlflow"])
