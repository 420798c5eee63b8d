"""MetaGPT against its formula, and what it does with a client that ran away."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcmp.aggregation import FedCMP, MetaGPT

from .oracle import as_tensors, as_updates, relative_error
from .oracle_baselines import metagpt, one_round


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.integers(1, 6))
def test_equals_formula(seed, clients):
    start, states, counts = one_round(seed, clients)
    merged = MetaGPT().aggregate(as_tensors(start), as_updates(states, counts))
    assert relative_error(merged, metagpt(start, states)) < 1e-12


def test_is_fed_cmp_by_magnitude_without_its_other_parts():
    start, states, counts = one_round(0, 4)
    ours, theirs = MetaGPT(), FedCMP(reliability="magnitude", momentum=False)
    expected = theirs.aggregate(as_tensors(start), as_updates(states, counts))
    found = ours.aggregate(as_tensors(start), as_updates(states, counts))
    assert relative_error(found, {name: tensor.numpy() for name, tensor in expected.items()}) < 1e-12
    assert ours.last_weights == pytest.approx(theirs.last_weights)


def test_the_trap_a_client_that_ran_away_takes_nearly_all_of_the_weight():
    start, states, counts = one_round(0, 5)
    states[2] = {name: start[name] + 1000 * (array - start[name]) for name, array in states[2].items()}
    aggregator = MetaGPT()
    aggregator.aggregate(as_tensors(start), as_updates(states, counts))
    assert aggregator.last_weights[2] > 0.9999  # as docs/methods.md warns


def test_round_in_which_nobody_moved_shares_by_samples():
    start, _, _ = one_round(0, 1)
    aggregator = MetaGPT()
    merged = aggregator.aggregate(as_tensors(start), as_updates([start, start], [1, 3]))
    assert relative_error(merged, start) == 0
    assert aggregator.last_weights == [0.25, 0.75]
