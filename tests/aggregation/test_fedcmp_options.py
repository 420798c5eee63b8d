"""FedCMP's reliability, options, and what it refuses."""

import numpy as np
import pytest

from fedcmp.aggregation import FedCMP, create

from .oracle import Oracle, as_tensors, as_updates, draw_start, one_round, relative_error


def test_last_weights_follow_the_formula():
    start, states, counts, errors, _, _ = one_round()
    oracle = Oracle(gamma=2.0)
    expected = oracle.weights(start, states, counts, errors)
    aggregator = FedCMP(gamma=2.0)
    aggregator.aggregate(as_tensors(start), as_updates(states, counts, errors))
    assert aggregator.last_weights == pytest.approx(list(expected))


def test_cap_bounds_a_diverged_client_from_the_second_round():
    start, states, *_ = one_round(space="updates")
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
    assert create("fedcmp").needs == {"alignment_error"}
    assert create("fedcmp", gamma=0.0).needs == set()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alignment_error": 2.5}, r"client 0: alignment_error = 2\.5: must lie in \[0, 2\]"),
        ({"alignment_error": -0.5}, r"client 0: alignment_error = -0\.5: must lie in \[0, 2\]"),
    ],
)
def test_what_the_options_need_is_checked(change, message):
    start, states, *_ = one_round(clients=1)
    update = as_updates(states)[0]
    with pytest.raises(ValueError, match=message):
        FedCMP().aggregate(as_tensors(start), [type(update)(**{"state": update.state, "num_examples": 1} | change)])


@pytest.mark.parametrize("arm", ["magnitude", "both"])
def test_a_median_of_zero_makes_the_next_round_count_samples(arm):
    start, states, counts, errors, *_ = one_round(space="updates")
    aggregator = FedCMP(reliability=arm, magnitude_cap=2.0, momentum=False)
    aggregator.aggregate(as_tensors(start), as_updates([start, start, states[0]]))
    assert aggregator.magnitude_limit == 0
    found = aggregator.aggregate(as_tensors(start), as_updates(states, counts, errors))
    expected = {name: sum(n * s[name] for n, s in zip(counts, states, strict=True)) / sum(counts) for name in start}
    assert relative_error(found, expected) < 1e-12
    assert aggregator.last_weights == pytest.approx(np.array(counts) / sum(counts))


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
