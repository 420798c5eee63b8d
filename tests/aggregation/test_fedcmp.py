"""FedCMP against the K-wide SVD, the facts about it, and the laws that it keeps."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from fedcmp.aggregation import FedCMP, create

from .oracle import Oracle, as_tensors, as_updates, draw_round, draw_start, relative_error

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


@settings(max_examples=200, deadline=None, derandomize=True)
@given(OPTIONS, st.integers(0, 10**6), SIZES, st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_equals_svd_route_over_rounds(options, seed, sizes, cohorts):
    compare(options, seed, sizes, cohorts, tolerance=1e-6)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(OPTIONS, st.integers(0, 10**6), SIZES, st.lists(st.integers(1, 4), min_size=1, max_size=3))
def test_raw_basis_equals_formula_over_rounds(options, seed, sizes, cohorts):
    compare(options | {"basis": "none", "rank": "full"}, seed, sizes, cohorts, tolerance=1e-9)


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


SMALL = [(6, 4), (5, 6)]


def one_round(seed=0, clients=3, space="weights", sizes=SMALL, moved=None):
    rng = np.random.default_rng(seed)
    start = draw_start(rng, sizes)
    states, bases = draw_round(rng, start, clients, space=space, moved=moved)
    moments = [{name: rng.random(array.shape) for name, array in start.items()} for _ in states]
    return start, states, [3, 5, 2, 7, 1][:clients], rng.random(clients), moments, bases


@pytest.mark.parametrize("space", ["weights", "updates"])
@pytest.mark.parametrize("options", [{"momentum": False, "rank": 6}, {"momentum": True}, {"rank": 0.999999999}])
def test_fact_1_canonical_space_alone_is_the_weighted_mean(options, space):
    start, states, counts, errors, moments, _ = one_round(space=space)
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


ARMS = {
    "published": {},
    "mean per parameter": {"reliability": "none", "parameter_exponent": 0.5, "momentum": False},
    "updates, average": {"space": "updates", "rank": 2, "matching": "procrustes", "tail": "average"},
    "energy": {"rank": 0.8, "tail": "average", "bias": "average"},
    "raw": {"basis": "none", "magnitude_cap": 2.0},
    "raw updates": {"basis": "none", "space": "updates"},
    "all at once": {"parameter_exponent": 1.0, "magnitude_cap": 1.0, "rank": 3, "gram_dtype": "float32"},
}
arms = pytest.mark.parametrize("options", ARMS.values(), ids=ARMS.keys())


@arms
@pytest.mark.parametrize("clients", [1, 4])
def test_equal_clients_come_back_in_a_first_round_that_keeps_the_rest(options, clients):
    start, states, *_, moments, _ = one_round(clients=1)
    options = options | {"tail": "average", "gram_dtype": "float64"}
    merged = FedCMP(**options).aggregate(as_tensors(start), as_updates(states * clients, moments=moments * clients))
    assert relative_error(merged, states[0]) < 1e-9


@arms
def test_projector_at_rest_stays_where_it_is(options):
    start, _, _, _, moments, _ = one_round(clients=1)
    aggregator = FedCMP(**options | {"tail": "average", "gram_dtype": "float64"})
    for _ in range(3):
        merged = aggregator.aggregate(as_tensors(start), as_updates([start] * 3, moments=moments * 3))
        assert relative_error(merged, start) < 1e-9


@arms
def test_order_of_clients_does_not_matter(options):
    start, states, counts, errors, moments, _ = one_round(clients=5)
    forward, backward = FedCMP(**options), FedCMP(**options)
    for _ in range(2):
        updates = as_updates(states, counts, errors, moments)
        first = forward.aggregate(as_tensors(start), updates)
        second = backward.aggregate(as_tensors(start), updates[::-1])
        assert relative_error(second, {n: t.numpy() for n, t in first.items()}) < 1e-9
        assert forward.last_weights == pytest.approx(backward.last_weights[::-1])


@arms
def test_resumed_equals_uninterrupted_bit_for_bit(options, tmp_path):
    straight, broken = FedCMP(**options), FedCMP(**options)
    start = as_tensors(one_round()[0])
    for seed in range(4):
        _, states, counts, errors, moments, _ = one_round(seed)
        updates = as_updates(states, counts, errors, moments)
        expected = straight.aggregate(start, updates)
        resumed = FedCMP(**options)
        if seed:
            resumed.load_state_dict(load_file(tmp_path / "server.safetensors"))
        found = resumed.aggregate(start, updates)
        save_file(resumed.state_dict(), tmp_path / "server.safetensors")
        assert all(torch.equal(found[name], expected[name]) for name in expected)
        assert resumed.last_weights == straight.last_weights
        assert resumed.round == straight.round == seed + 1
        start = expected
    assert broken.round == 0


@arms
def test_refused_client_leaves_no_trace(options):
    start, states, counts, errors, moments, _ = one_round()
    updates = as_updates(states, counts, errors, moments)
    bad = as_updates([{**states[0], "linear_1.bias": states[0]["linear_1.bias"] * np.nan}], moments=moments[:1])[0]
    with_bad, without = FedCMP(**options), FedCMP(**options)
    with_bad.begin(as_tensors(start))
    with_bad.add(updates[0])
    with pytest.raises(ValueError, match=r"client 1: linear_1\.bias holds 5 NaN or infinite values"):
        with_bad.add(bad)
    for update in updates[1:]:
        with_bad.add(update)
    found, expected = with_bad.finish(), without.aggregate(as_tensors(start), updates)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert with_bad.last_weights == without.last_weights


@arms
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_works_in_any_dtype_and_changes_no_input(options, dtype):
    start, states, counts, errors, moments, _ = one_round()
    rounded = [
        {n: torch.from_numpy(a).to(dtype).double().numpy() for n, a in state.items()} for state in [start, *states]
    ]
    exact = FedCMP(**options).aggregate(as_tensors(rounded[0]), as_updates(rounded[1:], counts, errors, moments))
    given_start, given = as_tensors(rounded[0], dtype), as_updates(rounded[1:], counts, errors, moments, dtype)
    copies = [{n: t.clone() for n, t in state.items()} for state in [given_start, *(u.state for u in given)]]
    found = FedCMP(**options).aggregate(given_start, given)
    for name, tensor in found.items():
        assert tensor.dtype == dtype
        assert torch.equal(tensor, exact[name].to(dtype))
        assert tensor.is_contiguous()
    for state, copy in zip([given_start, *(u.state for u in given)], copies, strict=True):
        assert all(torch.equal(state[name], copy[name]) for name in copy)


def test_last_weights_follow_the_formula():
    start, states, counts, errors, _, _ = one_round()
    oracle = Oracle(gamma=2.0)
    expected = oracle.weights(start, states, counts, errors)
    aggregator = FedCMP(gamma=2.0)
    aggregator.aggregate(as_tensors(start), as_updates(states, counts, errors))
    assert aggregator.last_weights == pytest.approx(list(expected))


def test_cap_bounds_a_diverged_client_from_the_second_round():
    start, states, counts, errors, _, _ = one_round(space="updates")
    wild = [states[0], states[1], {name: 1e3 * array for name, array in states[2].items()}]
    aggregator = FedCMP(reliability="magnitude", magnitude_cap=2.0, momentum=False)
    assert aggregator.magnitude_limit == float("inf")
    aggregator.aggregate(as_tensors(start), as_updates(states))
    assert aggregator.magnitude_limit == pytest.approx(2 * float(aggregator.state_dict()["median_magnitude"]))
    aggregator.aggregate(as_tensors(start), as_updates(wild))
    assert 0.3 < aggregator.last_weights[2] < 0.6  # two medians against two clients near one each
    uncapped = FedCMP(reliability="magnitude", momentum=False)
    uncapped.aggregate(as_tensors(start), as_updates(wild))
    assert uncapped.last_weights[2] > 0.999


def test_needs_names_what_the_clients_must_send():
    assert create("fedcmp-published").needs == {"alignment_error"}
    assert create("fedcmp-published", gamma=0.0).needs == set()
    assert create("fedcmp", parameter_exponent=0.5).needs == {"second_moment"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alignment_error": 2.5}, r"client 0: alignment_error = 2\.5: must lie in \[0, 2\]"),
        ({"second_moment": None}, r"client 0: second_moment of linear_0\.weight is missing"),
        ({"second_moment": {}}, r"client 0: second_moment: tensor linear_0\.weight is missing"),
        ({"second_moment": "negative"}, r"client 0: second_moment: linear_0\.weight holds negative values"),
    ],
)
def test_what_the_options_need_is_checked(change, message):
    start, states, *_, moments, _ = one_round(clients=1)
    update = as_updates(states, moments=moments)[0]
    if change == {"second_moment": "negative"}:
        change = {"second_moment": {name: -tensor for name, tensor in update.second_moment.items()}}
    fields = {"state": update.state, "num_examples": 1, "second_moment": update.second_moment} | change
    with pytest.raises(ValueError, match=message):
        FedCMP(parameter_exponent=0.5).aggregate(as_tensors(start), [type(update)(**fields)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gamma": -1.0}, "gamma = -1.0"),
        ({"gamma": float("nan")}, "gamma = nan"),
        ({"magnitude_cap": 0}, "magnitude_cap = 0"),
        ({"reliability": "all"}, "reliability = 'all': must be one of 'both'"),
        ({"space": "update"}, "space = 'update'"),
        ({"rank": 0}, "rank = 0"),
        ({"rank": 1.0}, "rank = 1.0"),
        ({"rank": True}, "rank = True"),
        ({"rank": "all"}, "rank = 'all'"),
        ({"matching": 1}, "matching = 1"),
        ({"tail": None}, "tail = None"),
        ({"bias": "row"}, "bias = 'row'"),
        ({"momentum": "false"}, "momentum = 'false': must be true or false"),
        ({"beta_min": 0.9, "beta_max": 0.5}, "beta_min = 0.9 is above beta_max = 0.5"),
        ({"kappa": -1}, "kappa = -1"),
        ({"basis": "raw"}, "basis = 'raw'"),
        ({"basis": "none", "rank": 4}, "rank = 4 with basis = 'none'.*set rank = 'full' or basis = 'canonical'"),
        ({"parameter_exponent": 3}, "parameter_exponent = 3"),
        ({"parameter_damping": -0.1}, "parameter_damping = -0.1"),
        ({"gram_dtype": "bfloat16"}, "gram_dtype = 'bfloat16'"),
    ],
)
def test_impossible_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        FedCMP(**options)


def test_memory_of_another_shape_or_method_is_refused():
    start, states, *_ = one_round()
    aggregator = FedCMP()
    aggregator.aggregate(as_tensors(start), as_updates(states))
    other = as_tensors(draw_start(np.random.default_rng(0), [(7, 4)]))
    with pytest.raises(ValueError, match=r"linear_0\.weight is \(7, 5\), but the rounds before had \(6,\)"):
        aggregator.begin(other)
    with pytest.raises(ValueError, match=r"entry 'basis\.linear_0\.weight' does not belong to these options"):
        FedCMP(basis="none").load_state_dict(aggregator.state_dict())
    torn = {entry: tensor for entry, tensor in aggregator.state_dict().items() if entry != "scales.linear_0.weight"}
    with pytest.raises(ValueError, match=r"entry 'scales\.linear_0\.weight' is missing"):
        FedCMP().load_state_dict(torn)
