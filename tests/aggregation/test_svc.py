"""SVC against the SVD of the mean, direction by direction."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcmp.aggregation import FedAvg, Svc

from .oracle import as_tensors, as_updates, relative_error
from .oracle_baselines import one_round, updates_of
from .oracle_merging import join, layers, svc

SIZES = st.lists(st.tuples(st.integers(1, 8), st.integers(1, 6)), min_size=1, max_size=2)


def merge(start, states, counts=None, **options):
    return Svc(**options).aggregate(as_tensors(start), as_updates(states, counts))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), SIZES, st.integers(1, 5), st.sampled_from([None, 0.1, 1.0]))
def test_equals_formula(seed, sizes, clients, alpha):
    start, states, counts = one_round(seed, clients, sizes)
    merged = merge(start, states, counts, alpha=alpha)
    assert relative_error(merged, svc(start, states, counts, 1 / clients if alpha is None else alpha)) < 1e-7


@pytest.mark.parametrize("alpha", [None, 0.1, 1.0])
def test_equal_clients_come_back(alpha):
    start, states, _ = one_round(0, 1)
    for clients in (1, 4):
        assert relative_error(merge(start, states * clients, alpha=alpha), states[0]) < 1e-9


def test_directions_of_single_clients_get_the_length_that_these_gave_them():
    """The mean has shrunk them to 1 / K; alpha = 1 never lengthens, and leaves them there."""
    start, states, _ = one_round(0, 2, ((6, 5),))
    rng = np.random.default_rng(1)
    left, right = (np.linalg.qr(rng.standard_normal((6, 6)))[0] for _ in range(2))
    lengths = np.array([3, 2.5, 2, 1.5, 1, 0.5])
    changes = [(left[:, k::2] * lengths[k::2]) @ right[k::2] for k in range(2)]
    for state, change in zip(states, changes, strict=True):
        state["linear_0.weight"] = start["linear_0.weight"] + change[:, :-1]
        state["linear_0.bias"] = start["linear_0.bias"] + change[:, -1]
    for alpha, expected in ((None, sum(changes)), (1.0, sum(changes) / 2)):
        merged = {name: tensor.numpy() for name, tensor in merge(start, states, alpha=alpha).items()}
        np.testing.assert_allclose(join(merged, "linear_0") - join(start, "linear_0"), expected, atol=1e-9)


def test_alpha_of_one_never_lengthens_a_direction_and_shortens_those_that_a_client_hardly_took():
    start, states, counts = one_round(0, 5, ((6, 5),))
    slow = {name: start[name] + 0.1 * (states[0][name] - start[name]) for name in start}
    for moved in (states, [states[0], slow]):
        mean = FedAvg().aggregate(as_tensors(start), as_updates(moved, counts[: len(moved)]))
        found = merge(start, moved, counts[: len(moved)], alpha=1.0)
        steps = [join({n: t.numpy() - start[n] for n, t in merged.items()}, "linear_0") for merged in (found, mean)]
        calibrated, uncalibrated = (np.linalg.svd(step, compute_uv=False) for step in steps)
        assert (calibrated <= uncalibrated + 1e-12).all()
    share = counts[0] / (counts[0] + counts[1])
    held = share + 0.1 * (1 - share)  # of the first client's response; ten times as much of the second's
    np.testing.assert_allclose(calibrated, uncalibrated * 2 / (1 + 10 * held))


def test_clients_at_rest_count_alpha_and_their_counts_are_the_means():
    start, states, _ = one_round(0, 1)
    aggregator = Svc(alpha=0.5)
    merged = aggregator.aggregate(as_tensors(start), as_updates([states[0], start], [3, 1]))
    assert aggregator.last_weights == [0.75, 0.25]
    (delta,) = updates_of(start, states)
    factor = 2 / (0.75 + 0.5)  # the mean holds .75 of the one client's response, none of the other's
    for layer in layers(start):
        for name in (f"{layer}.weight", f"{layer}.bias"):
            np.testing.assert_allclose(merged[name].numpy() - start[name], factor * 0.75 * delta[name], atol=1e-9)
    assert relative_error(aggregator.aggregate(as_tensors(start), as_updates([start] * 2)), start) == 0


def test_bad_option_is_named():
    for alpha in (0, 1.5, "1/K"):
        with pytest.raises(ValueError, match=r"alpha = .*: must be a number above 0 and at most 1"):
            Svc(alpha=alpha)
