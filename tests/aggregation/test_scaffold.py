"""SCAFFOLD's server half: control variates, what is broadcast, what is refused."""

import numpy as np
import pytest
import torch

from fedcmp.aggregation import ClientUpdate, Scaffold

from .oracle import as_tensors
from .oracle_baselines import one_round


def draw(seed, clients):
    start, states, counts = one_round(seed, clients)
    changes = [{name: array**2 for name, array in state.items()} for state in states]
    updates = [
        ClientUpdate(as_tensors(state), count, extra={"control_change": as_tensors(change)})
        for state, count, change in zip(states, counts, changes, strict=True)
    ]
    return start, updates, changes


def test_control_starts_at_zero_and_adds_up_the_changes():
    start, updates, changes = draw(0, 3)
    aggregator = Scaffold(total_clients=12)
    first = aggregator.broadcast(as_tensors(start))
    assert set(first) == {"control"}
    assert all(not tensor.any() and tensor.shape == start[name].shape for name, tensor in first["control"].items())
    for rounds in (1, 2):
        aggregator.aggregate(as_tensors(start), updates)
        sent = aggregator.broadcast(as_tensors(start))["control"]
        for name in start:
            expected = rounds * sum(change[name] for change in changes) / 12
            assert sent[name].numpy() == pytest.approx(expected)


def test_control_is_that_of_the_last_finished_round():
    start, updates, _ = draw(0, 2)
    aggregator = Scaffold()
    aggregator.begin(as_tensors(start))
    aggregator.add(updates[0])
    assert not any(tensor.any() for tensor in aggregator.broadcast(as_tensors(start))["control"].values())
    aggregator.finish()
    sent = aggregator.broadcast(as_tensors(start))["control"]
    sent["norm.scale"].zero_()  # a client's copy is its own
    assert aggregator.broadcast(as_tensors(start))["control"]["norm.scale"].all()


@pytest.mark.parametrize(
    ("dtype", "sent"), [(torch.bfloat16, torch.float32), (torch.float32, torch.float32), (torch.float64, torch.float64)]
)
def test_control_is_at_least_single_precision(dtype, sent):
    start, updates, _ = draw(0, 2)
    aggregator = Scaffold()
    assert aggregator.broadcast(as_tensors(start, dtype))["control"]["norm.scale"].dtype == sent
    aggregator.aggregate(as_tensors(start, dtype), updates)
    assert aggregator.broadcast(as_tensors(start, dtype))["control"]["norm.scale"].dtype == sent


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (None, r"client 1: extra\['control_change'\] is missing; train with the local objective 'scaffold'"),
        ({}, r"client 1: extra\['control_change'\] is missing"),
        ({"control_change": {}}, r"client 1: control_change: tensor linear_0\.weight is missing"),
        ({"control_change": "nan"}, r"client 1: control_change: norm\.scale holds 3 NaN or infinite values"),
    ],
)
def test_client_without_its_change_is_refused_and_leaves_no_trace(extra, message):
    start, updates, changes = draw(0, 2)
    if extra == {"control_change": "nan"}:
        extra = {"control_change": as_tensors(changes[0]) | {"norm.scale": torch.full((3,), torch.nan)}}
    aggregator, without = Scaffold(), Scaffold()
    aggregator.begin(as_tensors(start))
    aggregator.add(updates[0])
    with pytest.raises(ValueError, match=message):
        aggregator.add(ClientUpdate(updates[1].state, 5, extra=extra))
    found, expected = aggregator.finish(), without.aggregate(as_tensors(start), updates[:1])
    assert all(torch.equal(found[name], expected[name]) for name in start)
    after, alone = aggregator.state_dict(), without.state_dict()
    assert all(torch.equal(after[entry], alone[entry]) for entry in alone)


def test_more_clients_than_the_federation_has_are_refused():
    start, updates, _ = draw(0, 3)
    with pytest.raises(ValueError, match="client 2: the round has more clients than total_clients = 2"):
        Scaffold(total_clients=2).aggregate(as_tensors(start), updates)


@pytest.mark.parametrize("total", [0, 2.5, True, "5"])
def test_bad_total_is_named(total):
    with pytest.raises(ValueError, match=f"total_clients = {total!r}: must be a"):
        Scaffold(total_clients=total)


def test_says_what_it_needs_and_refuses_another_projector():
    start, updates, _ = draw(0, 2)
    aggregator = Scaffold()
    assert aggregator.needs == {"extra"}
    aggregator.aggregate(as_tensors(start), updates)
    with pytest.raises(ValueError, match="another model needs a new aggregator"):
        aggregator.broadcast({"weight": torch.from_numpy(np.zeros(2))})
