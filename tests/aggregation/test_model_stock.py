"""Model Stock against the cosines of all pairs."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcmp.aggregation import ModelStock

from .oracle import as_tensors, as_updates, relative_error
from .oracle_baselines import one_round
from .oracle_merging import model_stock


def merge(start, states):
    return ModelStock().aggregate(as_tensors(start), as_updates(states))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.integers(1, 6), st.floats(0, 1))
def test_equals_formula_pair_by_pair(seed, clients, shared):
    start, states, _ = one_round(seed, clients)
    states = [{n: (1 - shared) * array + shared * states[0][n] for n, array in state.items()} for state in states]
    assert relative_error(merge(start, states), model_stock(start, states)) < 1e-9


@pytest.mark.parametrize(("cosine", "expected"), [(1.0, 1.0), (0.5, 0.75), (0.0, 0.0), (-0.5, 0.0)])
def test_the_less_two_clients_agree_the_less_far_they_go(cosine, expected):
    """K = 3 unit updates whose cosines are all the same: t = 3 cos / (1 + 2 cos)."""
    pairwise = np.full((3, 3), cosine) + (1 - cosine) * np.eye(3)
    values, vectors = np.linalg.eigh(pairwise)
    changes = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    aggregator = ModelStock()
    start = {"prompt": torch.zeros(3, dtype=torch.float64)}
    merged = aggregator.aggregate(start, as_updates([{"prompt": change} for change in changes]))
    assert aggregator.last_diagnostics["ratio.prompt"] == pytest.approx(expected, abs=1e-7)
    np.testing.assert_allclose(merged["prompt"], expected * changes.mean(0), atol=1e-7)


def test_one_client_and_equal_clients_come_back():
    start, states, _ = one_round(0, 1)
    for clients in (1, 4):
        assert relative_error(merge(start, states * clients), states[0]) < 1e-12


def test_tensors_are_drawn_back_one_by_one():
    """Clients that agree in one tensor and not in another."""
    start, states, _ = one_round(0, 2)
    states[1] = {**states[0], "norm.scale": 2 * start["norm.scale"] - states[0]["norm.scale"]}
    merged = merge(start, states)
    np.testing.assert_allclose(merged["linear_0.weight"], states[0]["linear_0.weight"])
    np.testing.assert_allclose(merged["norm.scale"], start["norm.scale"])


def test_a_client_at_rest_agrees_with_nobody():
    start, states, _ = one_round(0, 1)
    aggregator = ModelStock()
    merged = aggregator.aggregate(as_tensors(start), as_updates([states[0], states[0], start]))
    cosine = 1 / 3  # of the three pairs, one agrees
    ratio = 3 * cosine / (1 + 2 * cosine)
    assert aggregator.last_diagnostics["ratio.norm.scale"] == pytest.approx(ratio)
    expected = {name: start[name] + ratio * 2 / 3 * (states[0][name] - start[name]) for name in start}
    assert relative_error(merged, expected) < 1e-12
    assert relative_error(merge(start, [start] * 3), start) == 0
