"""The laws that every choice of FedCMP's options keeps."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from fedcmp.aggregation import ClientUpdate, FedCMP

from .oracle import as_tensors, as_updates, one_round, relative_error

ARMS = {
    "published": {},
    "mean per parameter": {"reliability": "none", "parameter_exponent": 0.5, "momentum": False},
    "updates, average": {"space": "updates", "rank": 2, "matching": "procrustes", "tail": "average"},
    "energy": {"rank": 0.8, "tail": "average", "bias": "average"},
    "raw": {"basis": "none", "magnitude_cap": 2.0},
    "raw updates": {"basis": "none", "space": "updates"},
    "all at once": {"parameter_exponent": 1.0, "magnitude_cap": 1.0, "rank": 3, "gram_dtype": "float32"},
}
arms = pytest.mark.parametrize("options", ARMS.values(), ids=ARMS.keys())


@arms
@pytest.mark.parametrize("clients", [1, 4])
def test_equal_clients_come_back_in_a_first_round_that_keeps_the_rest(options, clients):
    start, states, *_, moments, _ = one_round(clients=1)
    options = options | {"tail": "average", "gram_dtype": "float64"}
    merged = FedCMP(**options).aggregate(as_tensors(start), as_updates(states * clients, moments=moments * clients))
    assert relative_error(merged, states[0]) < 1e-9


@arms
def test_projector_at_rest_stays_where_it_is(options):
    start, _, _, _, moments, _ = one_round(clients=1)
    aggregator = FedCMP(**options | {"tail": "average", "gram_dtype": "float64"})
    for _ in range(3):
        merged = aggregator.aggregate(as_tensors(start), as_updates([start] * 3, moments=moments * 3))
        assert relative_error(merged, start) < 1e-9


@arms
def test_order_of_clients_does_not_matter(options):
    start, states, counts, errors, moments, _ = one_round(clients=5)
    forward, backward = FedCMP(**options), FedCMP(**options)
    for _ in range(2):
        updates = as_updates(states, counts, errors, moments)
        first = forward.aggregate(as_tensors(start), updates)
        second = backward.aggregate(as_tensors(start), updates[::-1])
        assert relative_error(second, {n: t.numpy() for n, t in first.items()}) < 1e-9
        assert forward.last_weights == pytest.approx(backward.last_weights[::-1])


@arms
def test_resumed_equals_uninterrupted_bit_for_bit(options, tmp_path):
    straight = FedCMP(**options)
    start = as_tensors(one_round()[0])
    for seed in range(4):
        _, states, counts, errors, moments, _ = one_round(seed)
        updates = as_updates(states, counts, errors, moments)
        expected = straight.aggregate(start, updates)
        resumed = FedCMP(**options)
        if seed:
            resumed.load_state_dict(load_file(tmp_path / "server.safetensors"))
        found = resumed.aggregate(start, updates)
        save_file(resumed.state_dict(), tmp_path / "server.safetensors")
        assert all(torch.equal(found[name], expected[name]) for name in expected)
        assert resumed.last_weights == straight.last_weights
        assert resumed.round == straight.round == seed + 1
        start = expected


@arms
def test_refused_client_leaves_no_trace(options):
    start, states, counts, errors, moments, _ = one_round()
    updates = as_updates(states, counts, errors, moments)
    bad = as_updates([{**states[0], "linear_1.bias": states[0]["linear_1.bias"] * np.nan}], moments=moments[:1])[0]
    with_bad, without = FedCMP(**options), FedCMP(**options)
    with_bad.begin(as_tensors(start))
    with_bad.add(updates[0])
    with pytest.raises(ValueError, match=r"client 1: linear_1\.bias holds 5 NaN or infinite values"):
        with_bad.add(bad)
    for update in updates[1:]:
        with_bad.add(update)
    found, expected = with_bad.finish(), without.aggregate(as_tensors(start), updates)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert with_bad.last_weights == without.last_weights


@arms
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_works_in_any_dtype_and_changes_no_input(options, dtype):
    start, states, counts, errors, moments, _ = one_round()
    rounded = [
        {n: torch.from_numpy(a).to(dtype).double().numpy() for n, a in state.items()} for state in [start, *states]
    ]
    exact = FedCMP(**options).aggregate(as_tensors(rounded[0]), as_updates(rounded[1:], counts, errors, moments))
    given_start, given = as_tensors(rounded[0], dtype), as_updates(rounded[1:], counts, errors, moments, dtype)
    copies = [{n: t.clone() for n, t in state.items()} for state in [given_start, *(u.state for u in given)]]
    found = FedCMP(**options).aggregate(given_start, given)
    for name, tensor in found.items():
        assert tensor.dtype == dtype
        assert torch.equal(tensor, exact[name].to(dtype))
        assert tensor.is_contiguous()
    for state, copy in zip([given_start, *(u.state for u in given)], copies, strict=True):
        assert all(torch.equal(state[name], copy[name]) for name in copy)


@pytest.mark.parametrize("matching", ["sign", "procrustes"])
def test_a_round_in_which_nobody_moves_keeps_the_remembered_basis(matching):
    start, states, *_ = one_round(space="updates")
    aggregator = FedCMP(space="updates", matching=matching)
    aggregator.aggregate(as_tensors(start), as_updates(states))
    before = aggregator.state_dict()
    merged = aggregator.aggregate(as_tensors(start), as_updates([start] * 3))
    after = aggregator.state_dict()
    assert relative_error(merged, start) == 0
    assert all(torch.equal(after[entry], before[entry]) for entry in before if entry.startswith(("basis.", "scales.")))
    assert before.keys() == after.keys()


def test_the_order_of_tensors_changes_no_bit():
    """A state that was read from a file comes in another order than one fresh from a model."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"b.weight": (6, 5), "a.weight": (7, 6), "a.bias": (7,), "b.bias": (6,)}
    states = [{name: torch.randn(shape, generator=generator) for name, shape in shapes.items()} for _ in range(4)]
    results = []
    for order in (list(shapes), sorted(shapes)):
        rule = FedCMP()
        ordered = [{name: state[name] for name in order} for state in states]
        merged = rule.aggregate(ordered[0], [ClientUpdate(state, 3, 0.5) for state in ordered[1:]])
        results.append((rule.last_weights, merged))
    assert results[0][0] == results[1][0]
    assert all(torch.equal(results[0][1][name], results[1][1][name]) for name in shapes)
