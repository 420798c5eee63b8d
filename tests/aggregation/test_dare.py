"""DARE with averaging against its formula, peft's with the same entries dropped, and FedAvg."""

from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcmp.aggregation import Dare, FedAvg

from .oracle import as_tensors, as_updates, relative_error
from .oracle_baselines import flat, keeps, one_round, thinned, updates_of, weighted
from .peers import peft_merging


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.integers(1, 5), st.sampled_from([0.0, 0.2, 0.5, 0.9]), st.integers(-3, 3))
def test_equals_formula_over_rounds(seed, clients, drop, option_seed):
    aggregator = Dare(drop=drop, seed=option_seed)
    start, _, _ = one_round(seed, 1)
    for number in range(2):
        _, states, counts = one_round(seed + number + 1, clients)
        mean = weighted(thinned(start, states, drop, option_seed, number), counts)
        expected = {name: start[name] + mean[name] for name in start}
        found = aggregator.aggregate(as_tensors(start), as_updates(states, counts))
        assert relative_error(found, expected) < 1e-12
        start = expected


def test_equals_peft_where_it_drops_the_same_entries():
    start, states, counts = one_round(0, 4)
    masks = [flat({name: keeps(state, name, 0.5, 0, 0) for name in start}) for state in states]
    drawn = iter([torch.from_numpy(mask).double() for mask in masks])
    vectors = [torch.from_numpy(flat(delta)) for delta in updates_of(start, states)]
    weights = torch.tensor(counts, dtype=torch.float64) / sum(counts)
    with patch.object(torch, "bernoulli", lambda *_, **__: next(drawn)):
        expected = peft_merging().dare_linear(vectors, weights, 0.5)
    merged = Dare().aggregate(as_tensors(start), as_updates(states, counts))
    found = flat({name: tensor.numpy() - start[name] for name, tensor in merged.items()})
    assert found == pytest.approx(expected.numpy(), rel=1e-9, abs=1e-12)


def test_is_fedavg_on_average_over_seeds():
    start, states, counts = one_round(0, 3)
    updates = as_updates(states, counts)
    expected = FedAvg().aggregate(as_tensors(start), updates)
    runs = [Dare(seed=seed).aggregate(as_tensors(start), updates) for seed in range(80)]
    for name in start:
        moved = np.mean([run[name].numpy() for run in runs], axis=0) - start[name]
        spread = np.std([run[name].numpy() for run in runs], axis=0) / np.sqrt(80)
        assert np.all(np.abs(moved - (expected[name].numpy() - start[name])) < 5 * spread + 1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"drop": 1}, r"drop = 1: must be a number at least 0 and at most 0\.9999"),
        ({"drop": -0.1}, r"drop = -0\.1"),
        ({"seed": 1.5}, r"seed = 1\.5: must be a whole number"),
        ({"seed": True}, "seed = True: must be a whole number"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        Dare(**options)
