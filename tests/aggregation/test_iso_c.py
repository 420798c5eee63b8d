"""Iso-C against the SVD of the sum, and its laws."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcmp.aggregation import IsoC

from .oracle import as_tensors, as_updates, relative_error
from .oracle_baselines import one_round
from .oracle_merging import iso_c, join, layers

SIZES = st.lists(st.tuples(st.integers(1, 8), st.integers(1, 6)), min_size=1, max_size=2)


def merge(start, states, counts=None, **options):
    return IsoC(**options).aggregate(as_tensors(start), as_updates(states, counts))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), SIZES, st.integers(1, 5), st.sampled_from([0.2, 1.0, 1.5]))
def test_equals_formula(seed, sizes, clients, alpha):
    start, states, counts = one_round(seed, clients, sizes)
    assert relative_error(merge(start, states, counts, alpha=alpha), iso_c(start, states, counts, alpha)) < 1e-7


def test_every_direction_moves_by_the_mean_singular_value():
    start, states, _ = one_round(0, 4, ((5, 7),))
    merged = {name: tensor.numpy() for name, tensor in merge(start, states).items()}
    total = sum(join(state, "linear_0") - join(start, "linear_0") for state in states)
    found = np.linalg.svd(join(merged, "linear_0") - join(start, "linear_0"), compute_uv=False)
    np.testing.assert_allclose(found, np.linalg.svd(total, compute_uv=False).mean())


def test_directions_without_an_update_are_not_invented():
    """One client of rank 1: its direction alone moves, by the mean over all min(O, I) of them."""
    start, states, _ = one_round(0, 1, ((6, 4),))
    change = np.outer(np.arange(1.0, 7), np.arange(1.0, 6))
    state = {**states[0], "linear_0.weight": start["linear_0.weight"] + change[:, :-1]}
    state["linear_0.bias"] = start["linear_0.bias"] + change[:, -1]
    aggregator = IsoC()
    merged = aggregator.aggregate(as_tensors(start), as_updates([state]))
    step = join({name: tensor.numpy() for name, tensor in merged.items()}, "linear_0") - join(start, "linear_0")
    np.testing.assert_allclose(step, change / 5, atol=1e-9)


def test_clients_that_cancel_and_clients_at_rest_move_nothing():
    start, states, _ = one_round(0, 1)
    opposite = {name: 2 * start[name] - array for name, array in states[0].items()}
    for pair in ([states[0], opposite], [start, start]):
        merged = merge(start, pair)
        for layer in layers(start):
            for part in ("weight", "bias"):
                np.testing.assert_allclose(merged[f"{layer}.{part}"], start[f"{layer}.{part}"], atol=1e-12)


def test_it_is_as_long_as_the_sum_says_and_alpha_scales_it():
    start, states, _ = one_round(0, 1)
    once, thrice = merge(start, states), merge(start, states * 3)
    third = merge(start, states * 3, alpha=1 / 3)
    for layer in layers(start):
        name = f"{layer}.weight"
        step = once[name].numpy() - start[name]
        np.testing.assert_allclose(thrice[name].numpy() - start[name], 3 * step, atol=1e-9)
        np.testing.assert_allclose(third[name].numpy() - start[name], step, atol=1e-9)


def test_bad_option_is_named():
    with pytest.raises(ValueError, match="alpha = 0: must be a number above 0"):
        IsoC(alpha=0)
