"""Asynchronous rounds with clients that really train, on a virtual clock: parity, order, kills, deadlines."""

import shutil

import pytest

from fedcmp.config import dump_recipe
from fedcmp.federation.arrivals import Arrivals
from fedcmp.federation.buffered import Buffered
from fedcmp.federation.rounds import Events, Rounds
from fedcmp.runs.folder import RunFolder
from tests.federation.in_process import Unmeasured, VirtualClients
from tests.federation.test_rounds import outcome, run

METHODS = [
    ("fedavg", "float32"),
    ("fedavg", "int8"),
    ("moon", "int8"),
    ("fedcmp", "float32"),
    ("fisher", "int8"),
    ("dare-ties", "float32"),
    ("fedadam", "int8"),
]
SPREAD = [1.0, 2.3, 4.1, 7.0, 10.0]


class StopAfter(Events):
    def __init__(self, number):
        self.number = number

    def round_done(self, method, round_number, rounds, evaluation):
        if round_number == self.number:
            raise InterruptedError


def run_async(engine, place, method, *, resume=False, events=None, seconds=SPREAD, killed=None, **federation):
    """All merges of one method; the run's folder, and the clients."""
    changed = {"mode": "async", "buffer_size": 2, **federation}
    recipe = engine.recipe.model_copy(update={"federation": engine.recipe.federation.model_copy(update=changed)})
    initial, names = engine.vlm.trainable.tensors(), engine.data.manifest.names
    folder = RunFolder(place / "run")
    if not folder.begun:
        folder.begin(dump_recipe(recipe))
    side = Buffered(method, recipe.chosen(method), recipe, names, initial, place / "run" / "waiting", 0.003)
    clients = VirtualClients(engine, place / "clients", seconds, killed=killed)
    rounds = Rounds(
        method,
        recipe,
        side,
        Arrivals(side, clients),
        Unmeasured(),
        folder,
        first_records=[],
        events=events or Events(),
        rounds=side.rounds,
    )
    rounds.run(resume=resume, references=False)
    return folder, clients


@pytest.fixture(scope="module")
def orderly(engine, tmp_path_factory):
    """method -> the outcome of an asynchronous run that nothing disturbs."""
    known = {}

    def of(method):
        if method not in known:
            known[method] = outcome(run_async(engine, tmp_path_factory.mktemp(f"async-{method}"), method)[0])
        return known[method]

    return of


ASYNCHRONOUS_ONLY = ("part", "staleness", "clock")


def plain(found):
    """An outcome without what only asynchronous runs note."""
    tensors, state, lines = found
    lines = [{key: value for key, value in line.items() if key not in ASYNCHRONOUS_ONLY} for line in lines]
    for line in lines:
        if "diagnostics" in line:
            line["diagnostics"] = {k: v for k, v in line["diagnostics"].items() if not k.startswith("staleness")}
    return tensors, state["kept"], lines


@pytest.mark.parametrize(("method", "payload"), METHODS)
def test_clients_that_are_equally_fast_end_with_the_bits_of_synchronous_rounds(engine, tmp_path, method, payload):
    folder, _ = run_async(engine, tmp_path / "async", method, seconds=[3.0] * 5, buffer_size=5, payload=payload)
    assert plain(outcome(folder)) == plain(
        outcome(run(engine, tmp_path / "sync", method, federation={"payload": payload})[0])
    )


def test_every_part_is_trained_on_once_and_fast_clients_are_ahead(engine, tmp_path):
    folder, clients = run_async(engine, tmp_path, "fedavg")
    assert sorted(clients.carried_out) == [(client, part) for client in range(5) for part in (1, 2, 3)]
    lines = [line for line in folder.lines() if line["kind"] == "client"]
    merged = [(line["client"], line["part"]) for line in lines]
    assert sorted(merged) == sorted(clients.carried_out)
    assert [line["round"] for line in lines] == sorted(line["round"] for line in lines)
    clocks = [line["clock"] for line in folder.lines() if line["kind"] == "round"]
    assert clocks == sorted(clocks)
    assert clocks[-1] == 30.0  # the slowest client's three parts
    assert max(line["staleness"] for line in lines) >= 3
    assert {line["staleness"] for line in lines if line["client"] == 0} <= {0, 1}


@pytest.mark.parametrize("method", ["fedavg", "moon", "fedadam"])
def test_a_stopped_run_resumes_to_the_same_bits(engine, orderly, tmp_path, method):
    with pytest.raises(InterruptedError):
        run_async(engine, tmp_path, method, events=StopAfter(3))
    folder, _ = run_async(engine, tmp_path, method, resume=True)
    assert outcome(folder) == orderly(method)
    assert not (tmp_path / "run" / "waiting").exists()


@pytest.mark.parametrize("replies", [1, 2, 3, 6, 9, 14])
def test_a_run_killed_after_any_reply_loses_none_of_them(engine, orderly, tmp_path, replies):
    with pytest.raises(InterruptedError):
        run_async(engine, tmp_path, "moon", killed=replies)
    folder, clients = run_async(engine, tmp_path, "moon", resume=True)
    assert outcome(folder) == orderly("moon")
    assert len(clients.arrived) == 15 - replies


def test_a_run_falls_back_by_one_checkpoint(engine, orderly, tmp_path):
    with pytest.raises(InterruptedError):
        run_async(engine, tmp_path, "fedavg", events=StopAfter(4))
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "round-0004")
    folder, _ = run_async(engine, tmp_path, "fedavg", resume=True)
    assert outcome(folder) == orderly("fedavg")


def test_clients_that_are_too_slow_are_given_up_at_the_deadline(engine, tmp_path):
    folder, _ = run_async(engine, tmp_path, "fedavg", deadline=5.0, buffer_size=3)
    rounds = [line for line in folder.lines() if line["kind"] == "round"]
    missing = [name for line in rounds for name in line.get("missing", [])]
    assert sorted(missing) == ["client-3"] * 3 + ["client-4"] * 3
    assert {line["client"] for line in folder.lines() if line["kind"] == "client"} == {0, 1, 2}
    assert len(rounds) == 5
    assert rounds[-1]["clock"] == 15.0


def test_half_of_the_clients_at_a_time(engine, tmp_path):
    """Seeded sampling: the parts that synchronous rounds train on, each at its client's own pace."""
    _, clients = run_async(engine, tmp_path / "async", "fedavg", participation=0.5)
    _, transport = run(engine, tmp_path / "sync", "fedavg", federation={"participation": 0.5})
    assert sorted((part, client) for client, part in clients.carried_out) == sorted(transport.asked)
