"""FedCMP against the K-wide SVD, and the facts about it."""

from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fedcmp.aggregation import FedCMP, spectrum

from .oracle import Oracle, as_tensors, as_updates, draw_round, draw_start, one_round, relative_error

OPTIONS = st.fixed_dictionaries(
    {
        "gamma": st.sampled_from([0.5, 1.0, 2.0]),
        "magnitude_cap": st.sampled_from([float("inf"), 2.0, 0.7]),
        "reliability": st.sampled_from(["both", "magnitude", "quality", "none"]),
        "space": st.sampled_from(["weights", "updates"]),
        "rank": st.sampled_from(["full", 1, 3, 50, 0.5, 0.9]),
        "matching": st.sampled_from(["sign", "procrustes"]),
        "tail": st.sampled_from(["drop", "average"]),
        "bias": st.sampled_from(["column", "average"]),
        "momentum": st.booleans(),
        "coefficients": st.sampled_from(["round", "mixed"]),
        "scale_momentum": st.booleans(),
        "beta_min": st.sampled_from([0.0, 0.5]),
        "beta_max": st.sampled_from([0.5, 0.9]),
        "kappa": st.sampled_from([0.3, 1.0]),
        "parameter_exponent": st.sampled_from([None, 0.5, 1.0]),
        "parameter_damping": st.sampled_from([0.01, 0.5]),
    }
)
SIZES = st.lists(st.tuples(st.integers(1, 10), st.integers(1, 8)), min_size=1, max_size=2)


def draw_rounds(seed, sizes, cohorts, space="weights"):
    """Yield (states, counts, errors, moments) per round, given the round's start by send()."""
    rng = np.random.default_rng(seed)
    bases = None
    for clients in cohorts:
        start = yield
        turned = bases if rng.random() < 0.7 else None
        states, bases = draw_round(rng, start, clients, space=space, moved=turned)
        counts = [int(n) for n in rng.integers(1, 100, clients)]
        moments = [{name: rng.random(array.shape) ** 4 for name, array in start.items()} for _ in states]
        yield states, counts, rng.random(clients) * 2, moments


def compare(options, seed, sizes, cohorts, tolerance):
    aggregator, oracle = FedCMP(**options), Oracle(**options)
    start = draw_start(np.random.default_rng(seed + 1), sizes)
    rounds = draw_rounds(seed, sizes, cohorts, options.get("space", "weights"))
    for _ in rounds:
        states, counts, errors, moments = rounds.send(start)
        expected = oracle.round(start, states, counts, errors, moments)
        assume(oracle.margin > 1e-4)
        found = aggregator.aggregate(as_tensors(start), as_updates(states, counts, errors, moments))
        assert relative_error(found, expected) < tolerance
        start = expected


@settings(max_examples=120, deadline=None, derandomize=True)
@given(OPTIONS, st.integers(0, 10**6), SIZES, st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_equals_svd_route_over_rounds(options, seed, sizes, cohorts):
    compare(options, seed, sizes, cohorts, tolerance=1e-6)


@pytest.mark.parametrize("rank", ["full", 0.9])
def test_coefficients_re_expressed_in_the_mixed_basis_leave_the_weights_alone_at_full_rank(rank):
    """Fact 2: U_t U_t^T Wbar = Wbar. Where the tail is kept, a truncated basis changes nothing either."""
    options = {"coefficients": "mixed", "rank": rank, "tail": "average"}
    mixed, alone = FedCMP(**options), FedCMP(momentum=False)
    start = draw_start(np.random.default_rng(3), [(8, 6), (8, 8)])
    rounds = draw_rounds(3, None, [4, 4, 4])
    for _ in rounds:
        states, counts, errors, moments = rounds.send(start)
        updates = as_updates(states, counts, errors, moments)
        found, expected = (rule.aggregate(as_tensors(start), updates) for rule in (mixed, alone))
        for name, tensor in expected.items():
            torch.testing.assert_close(found[name], tensor, rtol=1e-9, atol=1e-9)
        start = {name: tensor.numpy() for name, tensor in expected.items()}


@settings(max_examples=30, deadline=None, derandomize=True)
@given(OPTIONS, st.integers(0, 10**6), SIZES, st.lists(st.integers(1, 4), min_size=1, max_size=3))
def test_raw_basis_equals_formula_over_rounds(options, seed, sizes, cohorts):
    compare(options | {"basis": "none", "rank": "full"}, seed, sizes, cohorts, tolerance=1e-9)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(OPTIONS, st.integers(0, 10**6), SIZES, st.lists(st.integers(1, 5), min_size=2, max_size=3))
def test_equals_svd_route_with_the_large_matrix_library(options, seed, sizes, cohorts):
    with patch.object(spectrum, "SMALL", 0):
        compare(options, seed, sizes, cohorts, tolerance=1e-6)


@settings(max_examples=2, deadline=None, derandomize=True)
@given(st.integers(0, 10**6))
def test_published_preset_equals_svd_route_at_a_real_width(seed):
    compare({}, seed, [(96, 48), (64, 96)], [5, 5, 5], tolerance=1e-6)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(OPTIONS, st.integers(0, 10**6), SIZES, st.lists(st.integers(1, 4), min_size=2, max_size=3))
def test_single_precision_products_stay_close(options, seed, sizes, cohorts):
    options["gram_dtype"] = "float32"
    aggregator, oracle = FedCMP(**options), Oracle(**{k: v for k, v in options.items() if k != "gram_dtype"})
    start = draw_start(np.random.default_rng(seed), sizes)
    rounds = draw_rounds(seed, sizes, cohorts, options["space"])
    for _ in rounds:
        states, counts, errors, moments = rounds.send(start)
        expected = oracle.round(start, states, counts, errors, moments)
        assume(oracle.margin > 1e-2)
        found = aggregator.aggregate(as_tensors(start), as_updates(states, counts, errors, moments))
        assert relative_error(found, expected) < 2e-4
        start = expected


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    OPTIONS,
    st.integers(0, 10**6),
    SIZES,
    st.lists(st.integers(1, 4), min_size=1, max_size=3),
    st.sampled_from(["noise", "equal", "still", "zero", "low rank", "huge", "tiny"]),
    st.sampled_from(["float64", "float32"]),
)
def test_hard_clients_give_finite_results_and_orthonormal_bases(options, seed, sizes, cohorts, kind, products):
    aggregator = FedCMP(**options, gram_dtype=products)
    rng = np.random.default_rng(seed)
    start = draw_start(rng, sizes)
    for clients in cohorts:
        states = [hard_client(rng, start, kind) for _ in range(clients)]
        states = states[:1] * clients if kind == "equal" else states
        moments = [{name: np.round(rng.random(array.shape)) for name, array in start.items()} for _ in states]
        merged = aggregator.aggregate(
            as_tensors(start), as_updates(states, errors=rng.random(clients), moments=moments)
        )
        assert all(torch.isfinite(tensor).all() for tensor in merged.values())
        for entry, tensor in aggregator.state_dict().items():
            if entry.startswith("basis."):
                assert torch.allclose(tensor.T @ tensor, torch.eye(tensor.shape[1]).double(), atol=1e-7)
        start = {name: tensor.numpy() for name, tensor in merged.items()}


def hard_client(rng, start, kind):
    if kind == "still":
        return start
    if kind == "zero":
        return {name: 0 * array for name, array in start.items()}
    scale = {"huge": 1e30, "tiny": 1e-30}.get(kind, 1.0)
    state = {name: scale * rng.standard_normal(array.shape) for name, array in start.items()}
    if kind == "low rank":
        state = {name: np.outer(np.arange(len(array)), array[0]).reshape(array.shape) if array.ndim == 2 else array
                 for name, array in state.items()}  # fmt: skip
    return state


@pytest.mark.parametrize("space", ["weights", "updates"])
@pytest.mark.parametrize("options", [{"momentum": False, "rank": 6}, {"momentum": True}, {"rank": 0.999999999}])
def test_fact_1_canonical_space_alone_is_the_weighted_mean(options, space):
    start, states, counts, errors, *_ = one_round(space=space)
    aggregator = FedCMP(space=space, **options)
    merged = aggregator.aggregate(as_tensors(start), as_updates(states, counts, errors))
    a = aggregator.last_weights
    mean = {name: sum(a_k * state[name] for a_k, state in zip(a, states, strict=True)) for name in start}
    assert aggregator.last_diagnostics["rank.linear_0.weight"] == 6  # it did go through the basis
    assert relative_error(merged, mean) < 1e-7
    assert sum(a) == pytest.approx(1)


def test_fact_2_reexpressing_the_coefficients_in_the_mixed_basis_undoes_the_step():
    start, states, _, _, _, bases = one_round()
    aggregator = FedCMP(bias="average", reliability="none")
    aggregator.aggregate(as_tensors(start), as_updates(states))
    _, later, *_ = one_round(seed=1, moved=bases)
    merged = aggregator.aggregate(as_tensors(start), as_updates(later))["linear_0.weight"].numpy()
    mean = np.mean([state["linear_0.weight"] for state in later], axis=0)
    mixed = aggregator.state_dict()["basis.linear_0.weight"].numpy()
    assert mixed @ mixed.T @ mean == pytest.approx(mean, rel=1e-9)  # U_t U_t^T Wbar: nothing is left of the momentum
    assert np.linalg.norm(merged - mean) > 0.01 * np.linalg.norm(mean)


def test_fact_3_sign_matching_at_full_rank_runs_further_than_the_clients():
    rng = np.random.default_rng(0)
    start = {"weight": rng.standard_normal((64, 64)) / 8}
    ratios = {}
    for name, options in {"published": {}, "safe": {"space": "updates", "rank": 8, "matching": "procrustes"}}.items():
        aggregator, state = FedCMP(**options), start
        for _ in range(2):
            clients = [{"weight": state["weight"] + 0.01 * rng.standard_normal((64, 64))} for _ in range(5)]
            merged = aggregator.aggregate(as_tensors(state), as_updates(clients))
            state = {"weight": merged["weight"].numpy()}
        ratios[name] = aggregator.last_diagnostics["step_ratio.weight"]
    assert ratios["published"] > 2
    assert ratios["safe"] <= 1 + 1e-9
