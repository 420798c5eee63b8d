"""The laws that all baselines keep, whatever their formula."""

from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from fedcmp.aggregation import ClientUpdate, FedAvg, blocks, create

from .oracle import as_tensors, relative_error
from .oracle_baselines import one_round
from .oracle_merging import draw_grams

RULES = ["fedavgm", "diloco", "fedadam", "fedyogi", "fedswa", "task-arithmetic", "ties", "dare", "dare-ties",
         "knots-ties", "metagpt", "scaffold", "regmean", "tsv", "iso-c", "wudi", "model-stock", "svc"]  # fmt: skip
rules = pytest.mark.parametrize("name", RULES)
# With these options a rule is FedAvg, tensor by tensor, when all clients have as many samples.
NEUTRAL = {
    "fedavgm": {"momentum": 0, "learning_rate": 1},
    "diloco": {"momentum": 0, "learning_rate": 1},
    "fedswa": {"alpha": 1},
    "task-arithmetic": {"scale": 0.25},
    "dare": {"drop": 0},
    "scaffold": {},
}

UNTRIMMED = {
    "ties": {"density": 1},
    "dare-ties": {"drop": 0, "density": 1},
    "metagpt": {},
    "knots-ties": {"density": 1, "scale": 1},
    "regmean": {},
    "wudi": {"cutoff": 0.0},
    "model-stock": {},
    "svc": {},
}


def as_updates(states, counts, dtype=torch.float64):
    grams = draw_grams(0, dict(sorted(states[0].items())), 1) * len(states)
    for k, gram in enumerate(grams):  # each client's own, whatever order they come in
        grams[k] = {name: matrix + np.diag(np.arange(len(matrix)) * float(counts[k])) for name, matrix in gram.items()}
    return [
        ClientUpdate(
            as_tensors(state, dtype),
            count,
            extra={"control_change": as_tensors(state, dtype), "input_gram": as_tensors(gram)},
        )
        for state, count, gram in zip(states, counts, grams, strict=True)
    ]


@rules
def test_projector_at_rest_stays_where_it_is(name):
    start, _, counts = one_round(0, 3)
    aggregator = create(name)
    for _ in range(3):
        merged = aggregator.aggregate(as_tensors(start), as_updates([start] * 3, counts))
        assert relative_error(merged, start) == 0


@pytest.mark.parametrize("name", NEUTRAL)
def test_neutral_options_are_fedavg_in_every_tensor(name):
    start, states, _ = one_round(0, 4)
    found = create(name, **NEUTRAL[name]).aggregate(as_tensors(start), as_updates(states, [7] * 4))
    expected = FedAvg().aggregate(as_tensors(start), as_updates(states, [7] * 4))
    assert relative_error(found, {n: tensor.numpy() for n, tensor in expected.items()}) < 1e-12


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.integers(1, 5), st.sampled_from(list((NEUTRAL | UNTRIMMED).items())))
def test_equal_clients_that_keep_all_come_back(seed, clients, rule):
    name, options = rule
    options = options | ({"scale": 1 / clients} if name == "task-arithmetic" else {})
    start, states, _ = one_round(seed, 1)
    merged = create(name, **options).aggregate(as_tensors(start), as_updates(states * clients, [3] * clients))
    assert relative_error(merged, states[0]) < 1e-7


@rules
def test_order_of_clients_does_not_matter(name):
    forward, shuffled = create(name), create(name)
    start, _, _ = one_round(0, 1)
    order = [3, 0, 4, 2, 1]
    for number in range(3):
        _, states, counts = one_round(number, 5)
        updates = as_updates(states, counts)
        first = forward.aggregate(as_tensors(start), updates)
        second = shuffled.aggregate(as_tensors(start), [updates[k] for k in order])
        assert relative_error(second, {n: tensor.numpy() for n, tensor in first.items()}) < 1e-9
        assert shuffled.last_weights == pytest.approx([forward.last_weights[k] for k in order])


@rules
def test_order_of_tensors_changes_no_bit(name):
    """A state that was read from a file comes in another order than one fresh from a model."""
    plain, turned = create(name), create(name)
    start, _, _ = one_round(0, 1)
    for number in range(2):
        _, states, counts = one_round(number, 3)
        expected = plain.aggregate(as_tensors(start), as_updates(states, counts))
        backward = [dict(reversed(state.items())) for state in [start, *states]]
        found = turned.aggregate(as_tensors(backward[0]), as_updates(backward[1:], counts))
        assert all(torch.equal(found[n], expected[n]) for n in start)


@rules
def test_resumed_equals_uninterrupted_bit_for_bit(name, tmp_path):
    straight = create(name)
    start = as_tensors(one_round(0, 1)[0], torch.float32)
    for number in range(4):
        _, states, counts = one_round(number, 3)
        updates = as_updates(states, counts, torch.float32)
        resumed = create(name)
        if number:
            resumed.load_state_dict(load_file(tmp_path / "server.safetensors"))
        sent, expected_sent = resumed.broadcast(start), straight.broadcast(start)
        assert sent.keys() == expected_sent.keys()
        assert all(torch.equal(t, expected_sent[label][n]) for label in sent for n, t in sent[label].items())
        expected, found = straight.aggregate(start, updates), resumed.aggregate(start, updates)
        assert all(torch.equal(found[n], expected[n]) for n in expected)
        assert resumed.last_weights == straight.last_weights
        assert resumed.round == straight.round == number + 1
        save_file(resumed.state_dict(), tmp_path / "server.safetensors")
        start = expected


@rules
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_works_in_any_dtype_and_changes_no_input(name, dtype):
    start, states, counts = one_round(0, 4)
    rounded = [{n: torch.from_numpy(a).to(dtype).double().numpy() for n, a in s.items()} for s in [start, *states]]
    exact = create(name).aggregate(as_tensors(rounded[0]), as_updates(rounded[1:], counts))
    given_start, given_updates = as_tensors(rounded[0], dtype), as_updates(rounded[1:], counts, dtype)
    tensors = [given_start, *(u.state for u in given_updates), *(u.extra["control_change"] for u in given_updates)]
    copies = [{n: tensor.clone() for n, tensor in state.items()} for state in tensors]
    found = create(name).aggregate(given_start, given_updates)
    for n, tensor in found.items():
        assert tensor.dtype == dtype
        assert tensor.shape == given_start[n].shape
        assert tensor.is_contiguous()
        assert torch.allclose(tensor.double(), exact[n], rtol=max(torch.finfo(dtype).eps, 1e-6), atol=1e-6)
    for state, copy in zip(tensors, copies, strict=True):
        assert all(torch.equal(state[n], copy[n]) for n in copy)


@rules
def test_caller_may_train_the_result_in_place(name):
    start, states, counts = one_round(0, 3)
    kept, trained = create(name), create(name)
    for _ in range(2):
        expected = kept.aggregate(as_tensors(start), as_updates(states, counts))
        found = trained.aggregate(as_tensors(start), as_updates(states, counts))
        assert all(torch.equal(found[n], expected[n]) for n in start)
        for tensor in found.values():
            tensor.fill_(7)


def test_caller_may_train_in_place_what_a_rule_remembers():
    start, states, counts = one_round(0, 3)
    options = {"basis": "none", "bias": "average"}  # its memory is the merged matrix itself, in float64
    kept, trained = create("fedcmp", **options), create("fedcmp", **options)
    for _ in range(2):
        expected = kept.aggregate(as_tensors(start), as_updates(states, counts))
        found = trained.aggregate(as_tensors(start), as_updates(states, counts))
        assert all(torch.equal(found[n], expected[n]) for n in start)
        for tensor in found.values():
            tensor.fill_(7)


@rules
def test_refused_client_leaves_no_trace_and_is_named(name):
    start, states, counts = one_round(0, 3)
    updates = as_updates(states, counts)
    bad = as_updates([{**states[0], "norm.scale": states[0]["norm.scale"] * np.inf}], [4])[0]
    with_bad, without = create(name), create(name)
    with_bad.begin(as_tensors(start))
    with_bad.add(updates[0])
    with pytest.raises(ValueError, match=r"^client 1: norm\.scale holds 3 NaN or infinite values"):
        with_bad.add(bad)
    for update in updates[1:]:
        with_bad.add(update)
    found, expected = with_bad.finish(), without.aggregate(as_tensors(start), updates)
    assert all(torch.equal(found[n], expected[n]) for n in start)


@rules
def test_unfinished_round_is_forgotten(name):
    start, states, counts = one_round(0, 3)
    updates = as_updates(states, counts)
    aggregator, fresh = create(name), create(name)
    aggregator.begin(as_tensors(start))
    aggregator.add(updates[2])
    for _ in range(2):
        found, expected = (a.aggregate(as_tensors(start), updates[:2]) for a in (aggregator, fresh))
        assert all(torch.equal(found[n], expected[n]) for n in start)


@rules
def test_blocks_do_not_matter(name):
    start, states, counts = one_round(0, 3, sizes=((9, 7),))
    whole = create(name).aggregate(as_tensors(start), as_updates(states, counts))
    with patch.object(blocks, "BLOCK", 8):
        cut = create(name).aggregate(as_tensors(start), as_updates(states, counts))
    assert relative_error(cut, {n: tensor.numpy() for n, tensor in whole.items()}) < 1e-12


@rules
def test_odd_shapes_and_a_scalar(name):
    start = {"scalar": torch.tensor(2.0), "empty": torch.zeros(0, 3), "filter": torch.ones(2, 1, 3)}
    moved = {n: tensor + 1 for n, tensor in start.items()}
    aggregator = create(name)
    merged = aggregator.aggregate(start, [ClientUpdate(moved, 1, extra={"control_change": moved})] * 2)
    assert {n: tensor.shape for n, tensor in merged.items()} == {n: tensor.shape for n, tensor in start.items()}
    assert all(torch.isfinite(tensor).all() for tensor in merged.values())
