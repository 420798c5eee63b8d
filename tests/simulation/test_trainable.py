"""A second kind of trainable goes through a whole federated run; no room of the package knows that it is another."""

import pytest
import torch

from fedcmp.config import parse_recipe
from fedcmp.errors import UserError
from fedcmp.federation.rounds import Events
from fedcmp.finished.evaluate import evaluate_run
from fedcmp.finished.export import export_run
from fedcmp.model.trainable import create_trainable, trainable_shapes
from fedcmp.planning.demand import demand_of
from fedcmp.planning.preflight import sizes_of
from fedcmp.runs.folder import RunFolder
from fedcmp.simulation.train import train
from tests.model.prompted import NAME
from tests.simulation.runner import metrics

METHODS = ["fedavg", "shared-basis", "fedcmp", "fisher", "knots-ties", "ties", "scaffold", "local"]


def silent(_what, _done, _total):
    return None


def recipe(folder, cache):
    return parse_recipe(
        {
            "run": {"folder": str(folder), "cache": str(cache), "methods": METHODS, "workers": 1, "cohort": 2},
            "model": {"projector": NAME},
            "data": {"num_pairs": 160},
            "scenario": {"kind": "iid", "clients": 2},
            "federation": {"rounds": 2, "payload": "int8"},
            "training": {"batch_size": 8, "learning_rate": 0.01},
            "evaluation": {"captions": 16, "questions_per_kind": 2, "samples": 1, "sample_tokens": 4},
        },
        "test",
    )


class StopAfterTheFirst(Events):
    def round_done(self, method, round_number, rounds, evaluation):
        raise InterruptedError


@pytest.fixture(scope="module")
def run(tmp_path_factory, world_cache):
    folder = tmp_path_factory.mktemp("prompted")
    return train(recipe(folder, world_cache), progress=silent)


def test_all_of_its_tensors_are_trained_sent_and_kept(run):
    fresh = create_trainable(NAME, 128, 128, initialisation="llava", seed=0).tensors()
    for method in METHODS:
        for trained in RunFolder(run / method).last().projectors.values():
            assert trained.keys() == fresh.keys()
            assert all(not torch.equal(tensor, fresh[name]) for name, tensor in trained.items()), method
    lines = [line for line in metrics(run / "fedavg") if line["kind"] == "client"]
    count = sum(tensor.numel() for tensor in fresh.values())
    assert all(count < line["bytes_up"] < 1.1 * count for line in lines)  # int8


def test_its_shapes_are_known_before_it_is_made(run, world_cache):
    fresh = create_trainable(NAME, 128, 128, initialisation="llava", seed=0).tensors()
    assert {name: tuple(tensor.shape) for name, tensor in fresh.items()} == trainable_shapes(NAME, 128, 128)
    loaded = recipe(run.parent, world_cache)
    planned = demand_of(loaded, sizes_of(loaded), on_gpu=False).wire
    for method, wire in planned.items():
        rounds = [line for line in metrics(run / method) if line["kind"] == "round"]
        assert rounds[-1]["bytes_sent"] == wire, method


def test_it_resumes_to_the_same_bits(run, tmp_path, world_cache):
    with pytest.raises(InterruptedError):
        train(recipe(tmp_path, world_cache), progress=silent, events=StopAfterTheFirst())
    again = train(recipe(tmp_path, world_cache), progress=silent, resume=True)
    for method in METHODS:
        assert metrics(again / method) == metrics(run / method)
        before, after = RunFolder(run / method).last().projectors, RunFolder(again / method).last().projectors
        for who, tensors in before.items():
            assert all(torch.equal(tensor, after[who][name]) for name, tensor in tensors.items())


def test_it_is_judged_again_and_what_llava_cannot_hold_is_refused(run, tmp_path):
    figures = evaluate_run(run / "fedavg", None, progress=silent)
    last = [line for line in metrics(run / "fedavg") if line["kind"] == "evaluation"][-1]
    assert figures["global"]["caption_loss"] == pytest.approx(last["caption_loss"], abs=1e-4)
    with pytest.raises(UserError, match="no place for a trained prompt token"):
        export_run(run / "fedavg", tmp_path / "out")
    assert not (tmp_path / "out").exists()
