"""KnOTS-TIES against the SVD of the joined updates."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcmp.aggregation import KnotsTies, Ties

from .oracle import as_tensors, as_updates, relative_error
from .oracle_baselines import knots_ties, one_round

SIZES = st.lists(st.tuples(st.integers(1, 8), st.integers(1, 6)), min_size=1, max_size=2)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), SIZES, st.integers(1, 5), st.sampled_from([0.2, 0.6, 1.0]))
def test_equals_svd_route(seed, sizes, clients, density):
    start, states, counts = one_round(seed, clients, sizes)
    merged = KnotsTies(density=density).aggregate(as_tensors(start), as_updates(states, counts))
    assert relative_error(merged, knots_ties(start, states, counts, density, 0.6)) < 1e-6


def test_low_rank_updates_use_few_coefficients():
    start, states, counts = one_round(0, 3, sizes=((8, 6), (4, 8)))
    for state in states:
        for name in ("linear_0.weight", "linear_0.bias"):
            state[name] = start[name] + (state[name] - start[name])[:1] * 2.0  # every row moves alike: rank 1
    aggregator = KnotsTies()
    merged = aggregator.aggregate(as_tensors(start), as_updates(states, counts))
    assert aggregator.last_diagnostics["rank.linear_0.weight"] == 1
    assert aggregator.last_diagnostics["rank.linear_1.weight"] == 4
    assert relative_error(merged, knots_ties(start, states, counts, 0.2, 0.6)) < 1e-6


def test_one_client_untrimmed_and_unscaled_comes_back():
    start, states, _ = one_round(0, 1, sizes=((8, 6), (4, 8)))
    merged = KnotsTies(density=1.0, scale=1.0).aggregate(as_tensors(start), as_updates(states))
    assert relative_error(merged, states[0]) < 1e-7


def test_a_round_in_which_nobody_moves_and_a_projector_without_matrices():
    start, _, _ = one_round(0, 1)
    aggregator = KnotsTies()
    assert relative_error(aggregator.aggregate(as_tensors(start), as_updates([start] * 2)), start) == 0
    assert aggregator.last_diagnostics["rank.linear_0.weight"] == 0
    lone = {"norm.scale": torch.ones(3)}
    assert torch.equal(aggregator.aggregate(lone, as_updates([{"norm.scale": start["norm.scale"]}]))["norm.scale"],
                       torch.from_numpy(start["norm.scale"]).float())  # fmt: skip


def test_votes_differently_from_ties():
    start, states, counts = one_round(0, 4)
    found = KnotsTies(scale=1.0).aggregate(as_tensors(start), as_updates(states, counts))
    plain = Ties().aggregate(as_tensors(start), as_updates(states, counts))
    assert not torch.allclose(found["linear_0.weight"], plain["linear_0.weight"], rtol=0.01)


def test_bad_options_are_named():
    for options in ({"density": 2}, {"scale": 0.0}):
        with pytest.raises(ValueError, match=f"^{next(iter(options))} = "):
            KnotsTies(**options)
