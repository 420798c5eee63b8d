"""A killed ServerApp, started again, ends with the bits and the metrics of one that was left alone."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from fedcmp.aggregation import create
from fedcmp.errors import UserError
from fedcmp.federation.flower import AggregatorStrategy, array_record
from tests.federation.flower import killed_app
from tests.federation.flower.apps import bits, client_app, initial, make_grid

TOP = Path(killed_app.__file__).parents[3]


def start(*arguments):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TOP), *sys.path]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.federation.flower.killed_app", *map(str, arguments)]
    return subprocess.Popen(command, env=environment, cwd=TOP, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def outcome(path):
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        return {name: (str(t.dtype), t.tolist()) for name, t in tensors.items()}, file.metadata()


def undisturbed(rule, folder):
    killed_app.main(rule, str(folder / "whole.checkpoint"), str(folder / "whole"))
    return outcome(folder / "whole")


def killed_at(rule, folder, wait):
    """Kill a process where it waits, start another one; what it ends with."""
    process = start(rule, folder / "checkpoint", folder / "result", wait)
    until = time.monotonic() + 120
    while not (folder / "result.there").exists():
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert not (folder / "result").exists()
    killed_app.main(rule, str(folder / "checkpoint"), str(folder / "result"))
    return outcome(folder / "result")


def test_killed_in_the_middle_of_a_round(tmp_path):
    assert killed_at("shared-basis", tmp_path, "3:102") == undisturbed("shared-basis", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["shared-basis", "fedavgm"])
@pytest.mark.parametrize("wait", ["opening:101", "1:100", "2:103", "evaluate-2:101", "4:103", "evaluate-4:100"])
def test_killed_anywhere(tmp_path, rule, wait):
    if rule == "fedavgm" and "opening" in wait:
        wait = "3:100"
    assert killed_at(rule, tmp_path, wait) == undisturbed(rule, tmp_path)


@pytest.mark.slow
def test_killed_at_random_moments_until_it_is_done(tmp_path):
    """Also while a checkpoint is written: a file is whole or not there."""
    for attempt in range(12):
        process = start("shared-basis", tmp_path / "checkpoint", tmp_path / "result")
        try:
            process.wait(timeout=2.5 + 0.17 * attempt)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if (tmp_path / "result").exists():
            break
    killed_app.main("shared-basis", str(tmp_path / "checkpoint"), str(tmp_path / "result"))
    assert outcome(tmp_path / "result") == undisturbed("shared-basis", tmp_path)


def strategy_of(rule, path, **options):
    return AggregatorStrategy(create(rule), checkpoint=path, fraction_evaluate=0.0, **options)


def test_a_finished_run_asks_nobody_again_and_goes_on_where_more_rounds_are_asked_for(tmp_path):
    path = tmp_path / "new" / "folder" / "checkpoint"
    first = strategy_of("fedadam", path).start(make_grid(client_app()), initial(), num_rounds=2)

    def nobody(node, message):
        raise AssertionError

    again = strategy_of("fedadam", path, min_clients=4).start(
        make_grid(client_app(), fault=nobody), initial(), num_rounds=2
    )
    assert bits(again.arrays) == bits(first.arrays)
    assert again.train_metrics_clientapp == first.train_metrics_clientapp
    longer = strategy_of("fedadam", path).start(make_grid(client_app()), initial(), num_rounds=3)
    whole = strategy_of("fedadam", tmp_path / "other").start(make_grid(client_app()), initial(), num_rounds=3)
    assert bits(longer.arrays) == bits(whole.arrays)
    assert longer.train_metrics_clientapp == whole.train_metrics_clientapp


def test_a_resumed_run_needs_the_initial_arrays_names_only(tmp_path):
    path = tmp_path / "checkpoint"
    strategy_of("fedavg", path).start(make_grid(client_app()), initial(), num_rounds=1)
    zeros = array_record({name: torch.zeros(array.shape) for name, array in initial().items()})
    resumed = strategy_of("fedavg", path).start(make_grid(client_app()), zeros, num_rounds=2)
    whole = strategy_of("fedavg", None).start(make_grid(client_app()), initial(), num_rounds=2)
    assert bits(resumed.arrays) == bits(whole.arrays)


def test_another_rules_or_models_or_damaged_checkpoints_are_refused_by_name(tmp_path):
    path = tmp_path / "checkpoint"
    strategy_of("fedavg", path).start(make_grid(client_app()), initial(), num_rounds=1)
    with pytest.raises(UserError, match="checkpoint: is a checkpoint of FedAvg, not of SharedBasis"):
        strategy_of("shared-basis", path).start(make_grid(client_app()), initial(), num_rounds=1)
    with pytest.raises(UserError, match=r"its tensor 1.weight is missing, the app's is torch.float32 \(5,\)"):
        strategy_of("fedavg", path).start(make_grid(client_app(norm=True)), initial(norm=True), num_rounds=1)
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="checkpoint: is no checkpoint of AggregatorStrategy"):
        strategy_of("fedavg", path).start(make_grid(client_app()), initial(), num_rounds=1)


def test_a_checkpoint_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        strategy_of("fedavg", tmp_path / "file" / "checkpoint").start(make_grid(client_app()), initial(), num_rounds=1)
