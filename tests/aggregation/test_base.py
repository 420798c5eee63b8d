"""The protocol that every rule shares: rounds, refusals, validation."""

import numpy as np
import pytest
import torch

from fedcmp.aggregation import ClientUpdate, create

from .oracle import as_tensors, as_updates, one_round

START = {"layer.weight": torch.ones(2, 3), "layer.bias": torch.zeros(2)}


def changed(**tensors):
    state = {name.replace("__", "."): tensor for name, tensor in tensors.items()}
    return ClientUpdate({**START, **state}, 1)


def filled(value, dtype=torch.float32):
    tensor = torch.ones(2, 3, dtype=dtype)
    tensor[0, 1] = value
    return tensor


@pytest.mark.parametrize("name", ["fedavg", "fedcmp"])
@pytest.mark.parametrize(
    ("update", "message"),
    [
        (ClientUpdate({"layer.weight": torch.ones(2, 3)}, 1), r"tensor layer\.bias is missing"),
        (changed(other=torch.ones(1)), r"extra tensor other"),
        (changed(layer__weight=torch.ones(3, 2)), r"layer\.weight has shape \(3, 2\); the global one has \(2, 3\)"),
        (changed(layer__weight=filled(torch.nan)), r"layer\.weight holds 1 NaN or infinite values"),
        (changed(layer__weight=filled(-torch.inf)), r"layer\.weight holds 1 NaN or infinite values"),
        (changed(layer__weight=filled(1e200, torch.float64)), r"layer\.weight holds numbers beyond float32's range"),
        (changed(layer__bias=torch.zeros(2, dtype=torch.int64)), r"layer\.bias is torch\.int64"),
        (changed(layer__bias=torch.zeros(2).to_sparse()), r"layer\.bias is torch\.float32; it must be a dense"),
        (changed(layer__bias=[0.0, 0.0]), r"layer\.bias is list"),
        (ClientUpdate(START, 0), r"num_examples = 0: must be at least 1"),
        (ClientUpdate(START, 10**400), r"num_examples = 1000.*: must be at least 1 and at most 2\*\*53"),
        (ClientUpdate(START, 2.5), r"num_examples = 2\.5: must be a whole number"),
        (ClientUpdate(START, True), r"num_examples = True: must be a whole number"),
        (ClientUpdate(START, 1, alignment_error=float("nan")), r"alignment_error = nan"),
    ],
)
def test_bad_update_is_refused_with_its_index(name, update, message):
    aggregator = create(name)
    with pytest.raises(ValueError, match=f"^client 2: {message}"):
        aggregator.aggregate(START, [ClientUpdate(START, 1), ClientUpdate(START, 1), update])


def test_index_counts_refused_clients_too():
    aggregator = create("fedavg")
    aggregator.begin(START)
    for index in range(2):
        with pytest.raises(ValueError, match=f"^client {index}: num_examples"):
            aggregator.add(ClientUpdate(START, 0))
    aggregator.add(ClientUpdate(START, 3))
    aggregator.finish()
    assert aggregator.last_weights == [1.0]


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ({}, "global state: holds no tensors"),
        ({"weight": filled(torch.nan)}, "global state: weight holds 1 NaN"),
        ({"steps": torch.tensor(3)}, r"global state: steps is torch\.int64"),
    ],
)
def test_bad_global_state_is_refused(start, message):
    with pytest.raises(ValueError, match=message):
        create("fedavg").begin(start)


def test_round_without_clients_is_refused():
    with pytest.raises(ValueError, match="no update was accepted"):
        create("fedavg").aggregate(START, [])


@pytest.mark.parametrize("call", [lambda a: a.finish(), lambda a: a.add(ClientUpdate(START, 1))])
def test_call_outside_a_round_says_so(call):
    aggregator = create("fedavg")
    with pytest.raises(RuntimeError, match="call begin"):
        call(aggregator)
    aggregator.aggregate(START, [ClientUpdate(START, 1)])
    with pytest.raises(RuntimeError, match="call begin"):
        call(aggregator)


def test_result_beyond_the_dtype_is_refused_and_forgotten():
    start = {"weight": 6e4 * torch.eye(2, dtype=torch.float16)}
    aggregator = create("fedcmp")
    aggregator.aggregate(start, [ClientUpdate(start, 1)])
    memory = aggregator.state_dict()
    memory["scales.weight"] *= 2  # S_t / S is then 1.5, and 1.5 * 6e4 beyond float16
    aggregator.load_state_dict(memory)
    with pytest.raises(ValueError, match=r"merged weight: its values do not fit torch\.float16"):
        aggregator.aggregate(start, [ClientUpdate(start, 1)])
    left = aggregator.state_dict()
    assert left.keys() == memory.keys()
    assert all(torch.equal(left[entry], memory[entry]) for entry in memory)


@pytest.mark.parametrize("name", ["fedavg", "fisher", "fedcmp"])
def test_streaming_equals_aggregate_and_lets_the_caller_reuse_tensors(name):
    start, states, counts, errors, moments, _ = one_round()
    updates = as_updates(states, counts, errors, moments)
    expected = create(name).aggregate(as_tensors(start), iter(updates))
    aggregator, live = create(name), as_tensors(start)
    aggregator.begin(live)
    for update in updates:
        for key, tensor in live.items():
            tensor.copy_(update.state[key])  # a model that is trained in place
        aggregator.add(ClientUpdate(live, update.num_examples, update.alignment_error, update.second_moment))
    found = aggregator.finish()
    assert list(found) == list(start)
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_begin_forgets_an_unfinished_round():
    start, states, counts, errors, _, _ = one_round()
    updates = as_updates(states, counts, errors)
    aggregator, fresh = create("fedcmp", magnitude_cap=1.0), create("fedcmp", magnitude_cap=1.0)
    aggregator.begin(as_tensors(start))
    aggregator.add(updates[2])
    for _ in range(2):
        found, expected = (a.aggregate(as_tensors(start), updates[:2]) for a in (aggregator, fresh))
        assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_gradients_and_numpy_counts_are_accepted():
    state = {name: torch.nn.Parameter(tensor + 1) for name, tensor in START.items()}
    merged = create("fedcmp").aggregate(START, [ClientUpdate(state, np.int64(4))])
    assert not any(tensor.requires_grad for tensor in merged.values())
    assert torch.allclose(merged["layer.bias"], torch.ones(2))


def test_foreign_state_is_refused():
    with pytest.raises(ValueError, match="entry 'round' is missing"):
        create("fedavg").load_state_dict({})
    with pytest.raises(ValueError, match=r"entry 'basis\.weight' is not this method's"):
        create("fedavg").load_state_dict({"round": torch.tensor(1), "basis.weight": torch.eye(2)})
