"""The rounds through a transport that misbehaves: the same bits, whatever the order in which replies come."""

import dataclasses
import shutil

import pytest

from fedcmp.config import dump_recipe
from fedcmp.errors import UserError
from fedcmp.federation.apart import Apart
from fedcmp.federation.rounds import Events, Rounds
from fedcmp.federation.server import ServerSide
from fedcmp.references import is_federated
from fedcmp.runs.folder import RunFolder
from fedcmp.runs.reading import load_runs
from fedcmp.runs.records import SiteEvent
from fedcmp.wire.files import read_message
from tests.federation.in_process import Scripted, Unmeasured, Unruly
from tests.simulation.runner import TIMES

METHODS = ["fedavg", "shared-basis", "moon", "scaffold", "knots-ties", "local", "centralized"]


class StopAfter(Events):
    def __init__(self, number):
        self.number = number

    def round_done(self, method, round_number, rounds, evaluation):
        if round_number == self.number:
            raise InterruptedError


def run(engine, place, method, *, resume=False, events=None, federation=None, notes=tuple, judge=None, **unruly):
    """All rounds of one method; the run's folder, and the transport."""
    recipe = engine.recipe
    if federation:
        recipe = recipe.model_copy(update={"federation": recipe.federation.model_copy(update=federation)})
    initial, names = engine.vlm.trainable.tensors(), engine.data.manifest.names
    folder = RunFolder(place / "run")
    if not folder.begun:
        folder.begin(dump_recipe(recipe))
    if not is_federated(method):
        side = Apart(method, names, initial, 0.003, recipe.chosen(method), waiting=place / "run" / "waiting")
    else:
        side = ServerSide(method, recipe.chosen(method), recipe, names, initial, place / "run" / "waiting", 0.003)
    transport = Unruly(engine, place / "clients", **unruly)
    told = {"first_records": [], "events": events or Events(), "notes": notes}
    rounds = Rounds(method, recipe, side, transport, judge or Unmeasured(), folder, **told)
    rounds.run(resume=resume, references=False)
    return folder, transport


def outcome(folder):
    """Everything that a run leaves behind, times excepted."""
    last = folder.last()
    state = {key: value for key, value in last.state.items() if key != "metrics_bytes"}
    lines = [{key: value for key, value in line.items() if key not in TIMES} for line in folder.lines()]
    return flat(last), state, lines


def flat(checkpoint):
    """The tensors of a checkpoint, in a form that can be compared."""
    own = {f"{who}/{name}": t for who, tensors in checkpoint.projectors.items() for name, t in tensors.items()}
    return {name: (str(t.dtype), t.tolist()) for name, t in (own | checkpoint.server).items()}


@pytest.fixture(scope="module")
def orderly(engine, tmp_path_factory):
    """method -> the outcome of a run in which nothing goes wrong."""
    return {m: outcome(run(engine, tmp_path_factory.mktemp(f"orderly-{m}"), m)[0]) for m in METHODS}


@pytest.mark.parametrize("method", METHODS)
def test_order_and_repetition_change_nothing(engine, orderly, tmp_path, method):
    folder, transport = run(engine, tmp_path, method, seed=1, reorder=True, duplicate=True, late=True)
    assert outcome(folder) == orderly[method]
    if method != "centralized":
        assert any(order != sorted(order) for order in transport.order)
        assert any(len(order) > len(set(order)) for order in transport.order)
    assert not (tmp_path / "run" / "waiting").exists()


@pytest.mark.parametrize("method", ["fedavg", "local"])
def test_records_say_when_each_reply_arrived_also_of_one_that_a_killed_process_had_received(engine, tmp_path, method):
    with pytest.raises(InterruptedError):
        run(engine, tmp_path, method, reorder=True, seed=2, killed=(2, 3))
    before = {path: read_message(path)[0]["arrived"] for path in (tmp_path / "run" / "waiting").glob("*-0002/*")}
    folder, _ = run(engine, tmp_path, method, resume=True)
    clients = [line for line in folder.lines() if line["kind"] == "client"]
    second = {f"client-{line['client']}.safetensors": line["arrived"] for line in clients if line["round"] == 2}
    assert second.items() >= {path.name: arrived for path, arrived in before.items()}.items()
    rounds = {line["round"]: line for line in folder.lines() if line["kind"] == "round"}
    for line in clients:
        assert line["round"] == 2 or 0 < line["arrived"] <= rounds[line["round"]]["waited"]
    assert [rounds[number]["opened"] for number in (1, 2, 3)] == sorted(line["opened"] for line in rounds.values())


def test_notes_are_logged_after_the_line_of_their_round(engine, tmp_path):
    waiting = [["joined", "asked"], [], ["late"]]

    def notes():
        happened = waiting.pop(0)
        return [SiteEvent(round=1, client=0, client_name="a", event=event, seconds=1.0) for event in happened]

    folder, _ = run(engine, tmp_path, "fedavg", notes=notes)
    kinds = [line.get("event", line["kind"]) for line in folder.lines() if line["kind"] != "client"]
    first, second, third = ["round", "joined", "asked", "evaluation"], ["round", "evaluation"], ["round", "late"]
    assert kinds == [*first, *second, *third, "evaluation", "finished"]


@pytest.mark.parametrize("method", ["scaffold", "local", "centralized"])
def test_the_best_round_is_kept_to_the_bit_through_a_kill_after_every_round(engine, tmp_path, method):
    """A run without a server too: all its learners' tensors of one round, that of the lowest mean loss."""
    losses = [0.3, 0.4, 0.35]
    want, _ = run(engine, tmp_path / "whole", method, judge=Scripted(losses))
    assert (want.at("best").round, want.at("last").round) == (1, 3)
    for number in range(1, 4):
        with pytest.raises(InterruptedError):
            run(engine, tmp_path / "killed", method, resume=True, judge=Scripted(losses, [number]))
    found, _ = run(engine, tmp_path / "killed", method, resume=True, judge=Scripted(losses))
    assert outcome(found) == outcome(want)
    mine, theirs, last = (flat(one) for one in (found.at("best"), want.at("best"), want.last()))
    assert mine == theirs != last
    assert load_runs(found.path)[0].best.round == 1  # as the records say it


@pytest.mark.parametrize("method", ["moon", "scaffold", "shared-basis", "local"])
def test_a_stopped_run_resumes_to_the_same_bits(engine, orderly, tmp_path, method):
    """Server and clients together: the server from its checkpoint, the clients from their own folders."""
    with pytest.raises(InterruptedError):
        run(engine, tmp_path, method, events=StopAfter(2))
    folder, _ = run(engine, tmp_path, method, resume=True, reorder=True)
    assert outcome(folder) == orderly[method]


def test_a_round_that_was_half_done_is_done_again(engine, orderly, tmp_path):
    """Clients may be a round ahead of a server that was killed: they continue from the round that it names."""
    with pytest.raises(InterruptedError):
        run(engine, tmp_path, "scaffold", events=StopAfter(3))
    newest = tmp_path / "run" / "checkpoints" / "round-0003"
    shutil.rmtree(newest)
    folder, _ = run(engine, tmp_path, "scaffold", resume=True)
    assert outcome(folder) == orderly["scaffold"]


@pytest.mark.parametrize("method", ["moon", "scaffold", "shared-basis", "local"])
def test_a_resumed_round_asks_only_the_clients_whose_reply_is_missing(engine, orderly, tmp_path, method):
    """A process that is killed after three of five replies to round 2, in any order, loses none of them."""
    with pytest.raises(InterruptedError):
        run(engine, tmp_path, method, reorder=True, seed=2, killed=(2, 3))
    assert len(list((tmp_path / "run" / "waiting" / "round-0002").iterdir())) == 3
    folder, transport = run(engine, tmp_path, method, resume=True)
    assert outcome(folder) == orderly[method]
    assert len([place for place in transport.asked if place[0] == 2]) == 2
    assert not (tmp_path / "run" / "waiting").exists()


def test_a_killed_first_round_keeps_its_replies_and_a_killed_opening_round_too(engine, orderly, tmp_path):
    with pytest.raises(InterruptedError):
        run(engine, tmp_path, "shared-basis", killed=(1, 4))  # the opening round comes first
    folder, transport = run(engine, tmp_path, "shared-basis", resume=True)
    assert outcome(folder) == orderly["shared-basis"]
    opening_and_first = [client for number, client in transport.asked if number == 1]
    assert opening_and_first == [4, 0, 1, 2, 3, 4]


def test_a_damaged_reply_and_one_to_another_assignment_count_for_nothing(engine, orderly, tmp_path):
    with pytest.raises(InterruptedError):
        run(engine, tmp_path, "fedavg", killed=(2, 3))
    waiting = tmp_path / "run" / "waiting"
    first, second, third = sorted((waiting / "round-0002").iterdir())
    content = bytearray(first.read_bytes())
    content[-5] ^= 4
    first.write_bytes(content)
    third.write_bytes(second.read_bytes())
    (waiting / "round-0001").mkdir()
    folder, transport = run(engine, tmp_path, "fedavg", resume=True)
    assert outcome(folder) == orderly["fedavg"]
    assert transport.asked[:4] == [(2, 0), (2, 2), (2, 3), (2, 4)]


def test_a_refused_reply_is_asked_for_again(engine, orderly, tmp_path, monkeypatch):
    """A finite but huge update is refused by its client's name; the run resumes, also without such a client."""
    carry_out = engine.client_side.carry_out

    def huge(works):
        (reply,) = carry_out(works)
        if works[0].client == 3 and works[0].assignment.round == 2:
            update = {name: t * 1e30 if name.endswith("@scales") else t for name, t in reply.update.items()}
            reply = dataclasses.replace(reply, update=update)
        return [reply]

    monkeypatch.setattr(engine.client_side, "carry_out", huge)
    with pytest.raises(
        UserError, match=r"fedavg, round 2, client 3 \(client-3\): linear_1\.weight has the norm .*drop"
    ):
        run(engine, tmp_path, "fedavg")
    dropped = shutil.copytree(tmp_path, tmp_path / "dropped")
    folder, _ = run(engine, dropped, "fedavg", resume=True, federation={"on_bad_update": "drop"})
    refused = [(line["round"], line["client"]) for line in folder.lines() if line.get("refused")]
    assert refused == [(2, 3)]
    monkeypatch.undo()
    folder, transport = run(engine, tmp_path, "fedavg", resume=True)
    assert transport.asked[0] == (2, 3)
    assert outcome(folder) == orderly["fedavg"]


def test_a_round_that_cannot_be_merged_names_the_client_of_the_largest_update(engine, tmp_path, monkeypatch):
    carry_out = engine.client_side.carry_out

    def large(works):
        (reply,) = carry_out(works)
        grow = 1e3 if works[0].client == 4 else 1.0
        update = {name: t * grow if name.endswith("@scales") else t for name, t in reply.update.items()}
        return [dataclasses.replace(reply, update=update)]

    def finish(_):
        raise ValueError("merged linear_1.bias: its values do not fit torch.float32")

    monkeypatch.setattr(engine.client_side, "carry_out", large)
    monkeypatch.setattr("fedcmp.aggregation.base.Aggregator.finish", finish)
    with pytest.raises(
        UserError, match=r"do not fit .*; the largest update, of norm \d.*, is that of client 4 \(client-4"
    ):
        run(engine, tmp_path, "fedavg")


def test_clients_that_lost_their_state_are_named(engine, tmp_path):
    with pytest.raises(InterruptedError):
        run(engine, tmp_path, "scaffold", events=StopAfter(1))
    shutil.rmtree(tmp_path / "clients" / "client-2")
    with pytest.raises(UserError, match=r"client-2/round-0001.*client's state of round 1"):
        run(engine, tmp_path, "scaffold", resume=True)


def test_a_client_that_never_replies_is_left_out_and_named(engine, tmp_path):
    lost = frozenset({(2, 0), (2, 3)})
    folder, _ = run(engine, tmp_path, "scaffold", lost=lost, reorder=True)
    rounds = {line["round"]: line for line in folder.lines() if line["kind"] == "round"}
    assert rounds[2]["missing"] == ["client-0", "client-3"]
    assert "missing" not in rounds[1]
    trained = [(line["round"], line["client"]) for line in folder.lines() if line["kind"] == "client"]
    assert trained == [(r, k) for r in (1, 2, 3) for k in range(5) if (r, k) not in lost]
    assert folder.last().state["kept"] == dict.fromkeys(map(str, range(5)), 3)
    again, _ = run(engine, tmp_path / "again", "scaffold", lost=lost)
    assert outcome(folder) == outcome(again)


def test_a_lost_reply_is_as_if_its_client_had_been_absent(engine, tmp_path):
    """It continues from the state that the server knows of, not from the one that it wrote in vain."""
    folder, _ = run(engine, tmp_path, "moon", lost=frozenset({(2, 1), (3, 1)}))
    assert folder.last().state["kept"]["1"] == 1


def test_too_few_replies_end_the_run_and_it_resumes(engine, orderly, tmp_path):
    lost = frozenset((2, client) for client in (0, 1, 2))
    with pytest.raises(
        UserError, match=r"fedavg, round 2: accepted 2 of 5 clients, federation\.min_clients = 3; no re"
    ):
        run(engine, tmp_path, "fedavg", lost=lost, federation={"min_clients": 3})
    folder, _ = run(engine, tmp_path, "fedavg", resume=True, federation={"min_clients": 3})
    assert outcome(folder) == orderly["fedavg"]


def test_a_learner_without_a_server_cannot_be_missing(engine, tmp_path):
    with pytest.raises(UserError, match="local, round 1: no reply from learner 3"):
        run(engine, tmp_path, "local", lost=frozenset({(1, 3)}))
