"""TSV-M against the SVDs of the clients' updates."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcmp.aggregation import Tsv

from .oracle import as_tensors, as_updates, relative_error
from .oracle_baselines import one_round, updates_of
from .oracle_merging import join, layers, tsv

SIZES = st.lists(st.tuples(st.integers(1, 8), st.integers(1, 6)), min_size=1, max_size=2)


def merge(start, states, counts=None, **options):
    return Tsv(**options).aggregate(as_tensors(start), as_updates(states, counts))


def steps_of(start, merged):
    found = {name: tensor.numpy() - start[name] for name, tensor in merged.items()}
    return {layer: join(found, layer) for layer in layers(start)}


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), SIZES, st.integers(1, 9), st.sampled_from([1.0, 0.3]))
def test_equals_formula(seed, sizes, clients, scale):
    start, states, counts = one_round(seed, clients, sizes)
    assert relative_error(merge(start, states, counts, scale=scale), tsv(start, states, counts, scale)) < 1e-6


def test_one_client_comes_back():
    start, states, _ = one_round(0, 1, ((8, 6), (4, 8)))
    assert relative_error(merge(start, states), states[0]) < 1e-9


def test_clients_whose_directions_are_orthogonal_are_added_up():
    start, states, _ = one_round(0, 2, ((6, 5),))
    rng = np.random.default_rng(1)
    left, right = (np.linalg.qr(rng.standard_normal((6, 6)))[0] for _ in range(2))
    changes = [(left[:, 3 * k : 3 * k + 3] * [3, 2, 1]) @ right[:, 3 * k : 3 * k + 3].T for k in range(2)]
    for state, change in zip(states, changes, strict=True):
        state["linear_0.weight"] = start["linear_0.weight"] + change[:, :-1]
        state["linear_0.bias"] = start["linear_0.bias"] + change[:, -1]
    (step,) = steps_of(start, merge(start, states)).values()
    np.testing.assert_allclose(step, sum(changes), atol=1e-9)


@pytest.mark.parametrize("clients", [2, 3, 9])
def test_equal_clients_give_their_leading_directions(clients):
    """They share each direction's place: min(O, I) / K of them come back, at the length that each client gave them."""
    start, states, _ = one_round(0, 1, ((6, 8),))
    (delta,) = updates_of(start, states)
    u, s, vt = np.linalg.svd(join(delta, "linear_0"))
    each = max(1, 6 // clients)
    (step,) = steps_of(start, merge(start, states * clients)).values()
    np.testing.assert_allclose(step, (u[:, :each] * s[:each]) @ vt[:each], atol=1e-9)


def test_a_client_at_rest_takes_room_but_no_direction():
    start, states, _ = one_round(0, 1, ((6, 8),))
    aggregator = Tsv()
    merged = aggregator.aggregate(as_tensors(start), as_updates([states[0], start]))
    (delta,) = updates_of(start, states)
    u, s, vt = np.linalg.svd(join(delta, "linear_0"))
    (step,) = steps_of(start, merged).values()
    np.testing.assert_allclose(step, (u[:, :3] * s[:3]) @ vt[:3], atol=1e-9)
    assert aggregator.last_diagnostics == {"rank.linear_0.weight": 3}
    assert relative_error(aggregator.aggregate(as_tensors(start), as_updates([start] * 2)), start) == 0
    assert aggregator.last_diagnostics == {"rank.linear_0.weight": 0}


def test_bad_option_is_named():
    with pytest.raises(ValueError, match="scale = 0: must be a number above 0"):
        Tsv(scale=0)
