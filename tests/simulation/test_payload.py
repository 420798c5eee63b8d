"""Runs whose updates travel in few bits: sizes, residuals, resuming, refusals."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fedcmp.config import parse_recipe, read_dumped
from fedcmp.errors import UserError
from fedcmp.federation.client_folder import ClientFolder
from fedcmp.federation.rounds import Events
from fedcmp.planning.demand import demand_of
from fedcmp.planning.preflight import sizes_of
from fedcmp.simulation.train import train
from fedcmp.wire.messages import ClientState
from fedcmp.wire.payload import payload_bytes
from tests.simulation.runner import last_projector, metrics

METHODS = ["fedavg", "shared-basis", "scaffold"]


class Interrupted(Exception):  # noqa: N818 - what a test does to a run
    pass


class StopAfter(Events):
    def __init__(self, number: int) -> None:
        self.number = number

    def round_done(self, method, round_number, rounds, evaluation):
        if round_number == self.number:
            raise Interrupted


def run(folder: Path, cache: Path, *, stop_after: int | None = None, resume: bool = False, **changes: dict) -> Path:
    content = {
        "run": {"name": "small", "folder": str(folder), "cache": str(cache), "seed": 3, "methods": METHODS}
        | {"workers": 1},
        "data": {"num_pairs": 108},
        "scenario": {"kind": "iid", "clients": 3},
        "federation": {"rounds": 3, "payload": "int8"},
        "training": {"learning_rate": 0.01, "batch_size": 8},
        "evaluation": {"captions": 16, "questions_per_kind": 0, "samples": 0},
    }
    for section, values in changes.items():
        content[section] = {**content[section], **values}
    events = Events() if stop_after is None else StopAfter(stop_after)
    return train(parse_recipe(content, "test"), resume=resume, events=events, progress=lambda _w, _d, _t: None)


def server(folder: Path, number: int) -> dict[str, torch.Tensor]:
    return load_file(folder / f"checkpoints/round-{number:04d}/server.safetensors")


@pytest.fixture(scope="module")
def reference(tmp_path_factory, world_cache):
    return run(tmp_path_factory.mktemp("payload"), world_cache)


def test_bytes_are_those_of_the_encoded_tensors(reference):
    shapes = {name: tensor.shape for name, tensor in projector(reference / "fedavg").items()}
    lines = [line for line in metrics(reference / "fedavg") if line["kind"] == "client"]
    assert {line["bytes_up"] for line in lines} == {payload_bytes(shapes, "int8")}
    assert {line["bytes_down"] for line in lines} == {payload_bytes(shapes, "bfloat16")}
    rounds = [line for line in metrics(reference / "fedavg") if line["kind"] == "round"]
    each = payload_bytes(shapes, "int8") + payload_bytes(shapes, "bfloat16")
    assert [line["bytes_sent"] for line in rounds] == [3 * each] * 3
    # SCAFFOLD's change of control travels in bfloat16, the server's control in float32
    controlled = [line for line in metrics(reference / "scaffold") if line["kind"] == "client"]
    assert {line["bytes_up"] for line in controlled} == {each}
    assert {line["bytes_down"] for line in controlled} == {
        payload_bytes(shapes, "bfloat16") + payload_bytes(shapes, "float32")
    }


def client_folder(run: Path, client: int) -> Path:
    return run / "clients" / f"client-{client}"


def state(run: Path, client: int) -> ClientState:
    """What a client kept last."""
    folder = client_folder(run, client)
    last = max(int(path.stem.partition("-")[2]) for path in folder.glob("round-*.safetensors"))
    return ClientFolder(folder).load(last)


def everything_kept(run: Path) -> list[dict[str, torch.Tensor]]:
    """The server's memory, then every client's."""
    return [server(run, 3), *(state(run, client).to_tensors()[1] for client in range(3))]


def projector(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(sorted((folder / "checkpoints").glob("round-*"))[-1] / "projector.safetensors")


def test_few_bits_end_near_where_float32_ends(reference, tmp_path, world_cache):
    exact = run(tmp_path, world_cache, federation={"payload": "float32"}, run={"methods": ["fedavg", "shared-basis"]})
    half = run(tmp_path / "half", world_cache, federation={"payload": "bfloat16"}, run={"methods": ["shared-basis"]})
    for method in ("fedavg", "shared-basis"):
        losses = [
            [line["caption_loss"] for line in metrics(folder / method) if line["kind"] == "evaluation"][-1]
            for folder in (exact, reference)
        ]
        assert losses[0] == pytest.approx(losses[1], abs=0.02), method
        assert last_projector(exact / method) != last_projector(reference / method)
    final = [line["caption_loss"] for line in metrics(half) if line["kind"] == "evaluation"][-1]
    whole = [line["caption_loss"] for line in metrics(exact / "shared-basis") if line["kind"] == "evaluation"][-1]
    assert final == pytest.approx(whole, abs=0.02)


def test_an_interrupted_run_resumes_to_the_same_end(reference, tmp_path, world_cache):
    with pytest.raises(Interrupted):
        run(tmp_path, world_cache, stop_after=1)
    resumed = run(tmp_path, world_cache, resume=True)
    for method in METHODS:
        assert last_projector(resumed / method) == last_projector(reference / method)
        assert metrics(resumed / method) == metrics(reference / method)
        for kept, again in zip(everything_kept(reference / method), everything_kept(resumed / method), strict=True):
            assert kept.keys() == again.keys()
            assert all(torch.equal(tensor, again[name]) for name, tensor in kept.items())


@pytest.mark.slow  # two workers load their models
def test_workers_change_nothing_and_cohorts_nothing_but_rounding(reference, tmp_path, world_cache):
    two = run(tmp_path / "two", world_cache, run={"workers": 2, "methods": ["shared-basis"]})
    assert last_projector(two) == last_projector(reference / "shared-basis")
    assert metrics(two) == metrics(reference / "shared-basis")
    joint = run(tmp_path / "joint", world_cache, run={"cohort": 3, "methods": ["shared-basis"]})
    losses = [
        [line["loss"] for line in metrics(folder) if line["kind"] == "client" and line["round"] == 3]
        for folder in (joint, reference / "shared-basis")
    ]
    assert losses[0] == pytest.approx(losses[1], abs=5e-3)
    assert server(joint, 3).keys() == server(reference / "shared-basis", 3).keys()


def test_residuals_stay_with_their_clients(reference, tmp_path, world_cache):
    trained = projector(reference / "fedavg")
    for client in range(3):
        kept = state(reference / "fedavg", client)
        assert kept.residual.keys() == trained.keys()
        assert all(float(tensor.abs().max()) > 0 for tensor in kept.residual.values())
    partly = run(tmp_path, world_cache, run={"methods": ["fedavg"]}, federation={"participation": 0.34})
    present = {line["round"]: line["client"] for line in metrics(partly) if line["kind"] == "client"}
    assert len(present) == 3
    for client in range(3):
        rounds = [number for number, who in present.items() if who == client]
        if rounds:  # an absent client's residual waits for it
            assert state(partly, client).round == max(rounds)
        else:
            assert not client_folder(partly, client).exists()


def test_the_servers_checkpoint_holds_nothing_of_a_client(reference):
    """docs/security.md says that it stays at home."""
    for method in METHODS:
        names = {path.name for path in (reference / method / "checkpoints" / "round-0003").iterdir()}
        assert names == {"projector.safetensors", "server.safetensors", "state.json"}
        assert not any(
            word in name for name in server(reference / method, 3) for word in ("client", "residual", "memory")
        )
    own = ClientFolder(client_folder(reference / "scaffold", 1)).load(3)
    assert own.memory["control"].keys() == projector(reference / "scaffold").keys()
    assert not any("control" in name and "client" in name for name in server(reference / "scaffold", 3))


def test_the_plan_has_room_for_residuals(reference):
    """Three checkpoints, of which two are kept while the third is written."""
    loaded = read_dumped(reference / "fedavg" / "recipe.toml")
    for method in METHODS:
        alone = loaded.model_copy(update={"run": loaded.run.model_copy(update={"methods": [method]})})
        planned = demand_of(alone, sizes_of(alone), on_gpu=False)
        last = sorted((reference / method / "checkpoints").glob("round-*"))[-1]
        clients = sum(path.stat().st_size for path in (reference / method).glob("clients/*/*"))
        assert clients + 3 * sum(path.stat().st_size for path in last.iterdir()) <= planned.run, method
        assert planned.wire[method] == metrics(reference / method)[-3]["bytes_sent"]


def test_without_feedback_nothing_is_kept(tmp_path, world_cache):
    plain = run(tmp_path, world_cache, run={"methods": ["fedavg"]}, federation={"error_feedback": False})
    assert not (plain / "clients").exists()


def test_a_rounded_broadcast_does_not_round_the_servers_projector(tmp_path, world_cache):
    """Clients then start beside the server's projector: what they send is their way from there, not where they are."""
    changes = {"payload": "float32", "broadcast_payload": "int8"}
    coarse = run(tmp_path, world_cache, run={"methods": ["fedavg"]}, federation=changes)
    state = projector(coarse)
    assert any(not torch.equal(tensor, tensor.bfloat16().float()) for tensor in state.values())
    lines = [line for line in metrics(coarse) if line["kind"] == "client"]
    shapes = {name: tensor.shape for name, tensor in state.items()}
    assert {line["bytes_up"] for line in lines} == {payload_bytes(shapes, "float32")}
    assert {line["bytes_down"] for line in lines} == {payload_bytes(shapes, "int8")}


@pytest.mark.parametrize("payload", ["bfloat16", "int8"])
def test_an_update_that_is_not_finite_is_refused_and_its_client_named(tmp_path, world_cache, payload):
    diverging = {"scenario": {"rate_factors": {"1": 1e30}}, "run": {"methods": ["fedavg"]}}
    with pytest.raises(UserError, match=r"fedavg, round 1, client 1 \(client-1\): .*linear_1.* NaN or infinite"):
        run(tmp_path, world_cache, federation={"payload": payload}, **diverging)
    going_on = {"payload": payload, "on_bad_update": "drop"}
    dropped = run(tmp_path / "drop", world_cache, federation=going_on, **diverging)
    refused = [line["client"] for line in metrics(dropped) if line["kind"] == "client" and "refused" in line]
    assert refused == [1, 1, 1]
    assert all(bool(tensor.isfinite().all()) for tensor in server(dropped, 3).values())


@pytest.mark.parametrize("dtype", ["float8_e4m3", "int8"])
def test_training_on_features_of_eight_bits(reference, tmp_path, world_cache, dtype):
    eight = run(tmp_path, world_cache, run={"methods": ["fedavg"]}, data={"feature_dtype": dtype})
    losses = [
        [line["caption_loss"] for line in metrics(folder) if line["kind"] == "evaluation"][-1]
        for folder in (eight, reference / "fedavg")
    ]
    assert losses[0] == pytest.approx(losses[1], abs=0.02)
    assert losses[0] != losses[1]


@pytest.mark.parametrize("method", ["moon", "scaffold"])
def test_a_refused_client_goes_on_from_what_it_knew_before(tmp_path, world_cache, method):
    """Else the one bad round would spoil all later ones: MOON would compare with a projector of NaN, and SCAFFOLD's
    server would lack a change of control that the client has made."""
    going_on = {"on_bad_update": "drop", "payload": "int8"}
    diverging = {"scenario": {"rate_factors": {"1": 1e30}}, "run": {"methods": [method]}}
    dropped = run(tmp_path, world_cache, federation=going_on, **diverging)
    assert all(bool(tensor.isfinite().all()) for tensor in server(dropped, 3).values())
    told = json.loads((dropped / "checkpoints" / "round-0003" / "state.json").read_text())["kept"]
    assert told == {"0": 3, "2": 3}  # client 1 starts with nothing in every round
    for client in (0, 2):
        tensors = state(dropped, client).to_tensors()[1]
        assert all(bool(tensor.isfinite().all()) for tensor in tensors.values())
