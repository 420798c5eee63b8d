"""How far runs are, by their files."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fedcmp.errors import UserError
from fedcmp.runs.best import Best
from fedcmp.runs.live import LiveFile
from fedcmp.runs.status import read_status
from tests.report.fakes import PROJECTOR_BYTES, write_run

START = datetime(2026, 11, 27, 10, tzinfo=UTC).timestamp()


def stopped(folder, method="fedavg", *, closed, rounds=10, clients=3, pace=60.0, missing=()):
    """A run of which so many rounds are closed, one every `pace` seconds; (round, client) in `missing` never came."""

    def change(line):
        number = line.get("round", 0)
        if line["kind"] == "finished" or number > closed:
            return None
        if line["kind"] == "client" and (number, line["client"]) in missing:
            return None
        if line["kind"] == "round":
            opened = datetime.fromtimestamp(START + pace * (number - 1), UTC).isoformat(timespec="seconds")
            named = [f"client-{client}" for of, client in missing if of == number]
            return line | {"opened": opened, "waited": pace - 5, "missing": named}
        return line

    write_run(folder, method, rounds=rounds, clients=clients, change=change, samples=False)
    return folder


def test_a_finished_run_has_nothing_left(tmp_path):
    (status,) = read_status(write_run(tmp_path / "a", "fedavg", rounds=4, clients=2, samples=False), now=START)
    assert (status.finished, status.closed, status.open, status.rounds, status.left) == (True, 4, None, 4, None)
    assert status.num_bytes == 4 * 2 * 2 * PROJECTOR_BYTES
    assert [(site.name, site.now, site.rounds) for site in status.sites] == [
        ("client-0", None, 4),
        ("client-1", None, 4),
    ]


def test_what_is_left_follows_the_pace_of_the_last_rounds(tmp_path):
    folder = stopped(tmp_path / "a", closed=4, pace=60)
    (status,) = read_status(folder, now=START + 4 * 60 + 15)
    assert (status.finished, status.closed, status.open) == (False, 4, None)
    assert status.left == pytest.approx(6 * 60 - 15)
    (status,) = read_status(folder, now=START + 10_000)
    assert status.left == 0
    (status,) = read_status(stopped(tmp_path / "b", closed=1, pace=60), now=START + 60)
    assert status.left == pytest.approx(9 * 55 + 55 - 60)  # of one round only how long it waited is known
    (status,) = read_status(stopped(tmp_path / "c", closed=0), now=START)
    assert (status.closed, status.left, status.loss) == (0, None, None)


def test_losses_and_who_missed_a_round_are_those_of_the_records(tmp_path):
    folder = stopped(tmp_path / "a", closed=3, missing=[(2, 1), (3, 1), (3, 2)])
    (status,) = read_status(folder, now=START)
    assert [(site.name, site.rounds, site.missed) for site in status.sites] == [
        ("client-0", 3, 0),
        ("client-1", 1, 2),
        ("client-2", 2, 1),
    ]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    losses = {line["round"]: line["caption_loss"] for line in lines if line.get("model") == "global"}
    assert (status.loss_round, status.loss) == (3, losses[3])
    low = min(losses, key=losses.get)
    assert (status.best.round, status.best.loss) == (low, losses[low])
    trained = [line["loss"] for line in lines if line["kind"] == "client" and line["client"] == 1]
    assert [site.loss for site in status.sites][1] == trained[-1]


def test_a_simulated_run_shows_whose_replies_to_the_open_round_are_there(tmp_path):
    folder = stopped(tmp_path / "a", closed=2)
    waiting = folder / "waiting" / "round-0003"
    waiting.mkdir(parents=True)
    for client in (0, 2, 9):
        (waiting / f"client-{client}.safetensors").write_bytes(b"")
    (waiting / "client-1.safetensors.17.tmp").write_bytes(b"")
    (status,) = read_status(folder, now=START)
    assert status.open == 3
    assert [site.now.state for site in status.sites] == ["done", "waiting", "done"]
    (waiting.parent / "round-0003-opening").mkdir()
    assert read_status(folder, now=START)[0].open == 3


def test_a_servers_live_file_says_what_its_sites_do(tmp_path):
    folder = stopped(tmp_path / "run", closed=2)
    live = LiveFile(folder, "fedavg", 10, ["client-0", "client-1", "client-2"])
    live.open(3, seconds=30)
    live.site("client-0", "training", step=3, steps=9)
    live.site("client-1", "out", detail="link lost")
    (status,) = read_status(folder, now=START)
    assert (status.open, status.deadline) == (3, pytest.approx(status.opened + 30))
    assert [(site.now.state, site.rounds) for site in status.sites] == [("training", 2), ("out", 2), ("waiting", 2)]
    assert status.news == pytest.approx((folder / "live.json").stat().st_mtime)
    live.open(2)  # between two rounds the last one is closed already
    assert read_status(folder, now=START)[0].open is None


def test_the_live_file_may_be_above_the_methods_folders_and_is_that_of_one_of_them(tmp_path):
    for method in ("fedavg", "moon"):
        stopped(tmp_path / method, method, closed=1)
    LiveFile(tmp_path, "moon", 10, ["client-0"]).open(2)
    assert {status.method: status.open for status in read_status(tmp_path, now=START)} == {"fedavg": None, "moon": 2}


def test_a_live_file_that_a_killed_server_left_does_not_reopen_a_finished_run(tmp_path):
    folder = write_run(tmp_path / "a", "fedavg", rounds=2, clients=2, samples=False)
    LiveFile(folder, "fedavg", 2, ["client-0"]).open(2)
    (status,) = read_status(folder, now=START)
    assert (status.finished, status.open, [site.now for site in status.sites]) == (True, None, [None, None])


def test_a_site_has_a_live_file_alone(tmp_path):
    live = LiveFile(tmp_path, "fedavg", 10, ["north"])
    live.open(3)
    live.site("north", "training", step=3, steps=9)
    (status,) = read_status(tmp_path, now=START)
    assert (status.method, status.open, status.rounds, status.finished) == ("fedavg", 3, 10, False)
    assert [(site.name, site.now.step) for site in status.sites] == [("north", 3)]


def test_a_folder_without_any_of_it_is_one_line(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        read_status(Path("nowhere"), now=START)
    with pytest.raises(UserError, match=r"neither a run \(metrics\.jsonl\) nor a site at work \(live\.json\)"):
        read_status(tmp_path, now=START)


def test_the_best_round_is_named(tmp_path):
    (status,) = read_status(stopped(tmp_path / "a", closed=5), now=START)
    assert isinstance(status.best, Best)
