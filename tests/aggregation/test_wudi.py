"""WUDI against its loss, the pseudo-inverse and Adam in NumPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcmp.aggregation import Wudi

from .oracle import as_tensors, as_updates, relative_error
from .oracle_baselines import one_round, updates_of
from .oracle_merging import join, layers, wudi, wudi_adam, wudi_loss

SIZES = st.lists(st.tuples(st.integers(1, 8), st.integers(1, 6)), min_size=1, max_size=2)


def merge(start, states, counts=None, **options):
    return Wudi(**options).aggregate(as_tensors(start), as_updates(states, counts))


def steps_of(start, merged):
    found = {name: tensor.numpy() - start[name] for name, tensor in merged.items()}
    return {layer: join(found, layer) for layer in layers(start)}


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), SIZES, st.integers(1, 5), st.sampled_from([1e-8, 1e-2]))
def test_closed_form_equals_the_pseudo_inverse(seed, sizes, clients, cutoff):
    start, states, counts = one_round(seed, clients, sizes)
    merged = merge(start, states, counts, cutoff=cutoff)
    assert relative_error(merged, wudi(start, states, counts, cutoff)) < 1e-6


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.integers(1, 4))
def test_nothing_disturbs_the_clients_layers_less(seed, clients):
    start, states, _ = one_round(seed, clients, ((4, 6), (5, 3)))
    deltas = updates_of(start, states)
    rng = np.random.default_rng(seed)
    for layer, step in steps_of(start, merge(start, states, cutoff=0.0)).items():
        each = [join(delta, layer) for delta in deltas]
        least = wudi_loss(step, each)
        assert least <= wudi_loss(sum(each), each) * (1 + 1e-9) + 1e-12
        for _ in range(5):
            assert least <= wudi_loss(step + 1e-3 * rng.standard_normal(step.shape), each) + 1e-12


@pytest.mark.parametrize("steps", [1, 40])
def test_the_published_descent_is_adam_on_the_loss(steps):
    start, states, counts = one_round(0, 3, ((4, 6),))
    merged = merge(start, states, counts, steps=steps, learning_rate=1e-3)
    assert relative_error(merged, wudi_adam(start, states, counts, steps, 1e-3)) < 1e-9


def test_a_long_descent_nears_the_least_loss():
    start, states, _ = one_round(0, 3, ((4, 6),))
    each = [join(delta, "linear_0") for delta in updates_of(start, states)]
    (closed,), (descended,) = (
        steps_of(start, merge(start, states, **options)).values()
        for options in ({}, {"steps": 3000, "learning_rate": 1e-4})
    )
    first, least = wudi_loss(sum(each), each), wudi_loss(closed, each)
    assert least <= wudi_loss(descended, each) < least + 0.03 * (first - least)


def test_clients_of_orthogonal_inputs_are_added_up():
    """Nothing interferes: each client's layer answers its own inputs as if it were alone."""
    start, states, _ = one_round(0, 2, ((4, 6),))
    for k, state in enumerate(states):
        kept = np.zeros(6)
        kept[3 * k : 3 * k + 3] = 1
        state["linear_0.weight"] = start["linear_0.weight"] + kept * (
            state["linear_0.weight"] - start["linear_0.weight"]
        )
        state["linear_0.bias"] = start["linear_0.bias"]
    (step,) = steps_of(start, merge(start, states)).values()
    expected = sum(join(delta, "linear_0") for delta in updates_of(start, states))
    np.testing.assert_allclose(step, expected, atol=1e-9)


def test_equal_clients_come_back_and_clients_at_rest_add_nothing():
    start, states, _ = one_round(0, 1)
    assert relative_error(merge(start, states * 3, cutoff=0.0), states[0]) < 1e-7
    with_rest, without = merge(start, [states[0], start], cutoff=0.0), merge(start, states, cutoff=0.0)
    for layer in layers(start):
        np.testing.assert_allclose(with_rest[f"{layer}.weight"], without[f"{layer}.weight"], atol=1e-9)


@pytest.mark.parametrize("angle", [0.3, 0.03])
def test_clients_that_disagree_on_nearly_the_same_inputs_are_met_by_a_long_update(angle):
    """Opposite answers to inputs that are an angle apart; a cutoff above its square leaves their common direction."""
    start, states, _ = one_round(0, 2, ((2, 3),))
    for sign, state in zip((1, -1), states, strict=True):
        change = np.outer([sign, 2.0], [np.cos(angle / 2), sign * np.sin(angle / 2), 0])
        state["linear_0.weight"] = start["linear_0.weight"] + change
        state["linear_0.bias"] = start["linear_0.bias"]
    (exact,), (cut,) = (steps_of(start, merge(start, states, cutoff=c)).values() for c in (1e-8, 0.1))
    np.testing.assert_allclose(exact[0, :2], [0, 1 / np.sin(angle / 2)], atol=1e-6)  # meets both answers in full
    np.testing.assert_allclose(exact[1, :2], [2 / np.cos(angle / 2), 0], atol=1e-6)
    assert np.linalg.norm(cut) < 2.1


def test_weak_directions_are_cut_off_and_counted():
    start, states, _ = one_round(0, 1, ((6, 5),))
    change = np.diag([1.0, 0.1, 1e-2, 1e-3, 1e-6])[[0, 1, 2, 3, 4, 4]]
    change[5] = 0
    state = {**states[0], "linear_0.weight": start["linear_0.weight"] + change, "linear_0.bias": start["linear_0.bias"]}
    for cutoff, rank in ((1e-8, 4), (1e-3, 2), (0.0, 5)):
        aggregator = Wudi(cutoff=cutoff)
        aggregator.aggregate(as_tensors(start), as_updates([state]))
        assert aggregator.last_diagnostics == {"rank.linear_0.weight": rank}


def test_bad_options_are_named():
    for options in ({"cutoff": 1}, {"steps": -1}, {"steps": 2.5}, {"learning_rate": 0}):
        with pytest.raises(ValueError, match=f"^{next(iter(options))} = "):
            Wudi(**options)
