"""DARE-TIES against its formula, peft's (which does not trim) and TIES."""

from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcmp.aggregation import DareTies, Ties

from .oracle import as_tensors, as_updates, relative_error
from .oracle_baselines import flat, keeps, one_round, thinned, unflat, updates_of, vote
from .peers import peft_merging


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.integers(1, 5), st.sampled_from([0.0, 0.5, 0.9]), st.sampled_from([0.2, 0.7, 1.0]))
def test_equals_formula(seed, clients, drop, density):
    start, states, counts = one_round(seed, clients)
    vectors = [flat(delta) for delta in thinned(start, states, drop, 3, 0)]
    merged = unflat(vote(vectors, density), start)
    expected = {name: start[name] + 0.8 * merged[name] for name in start}
    aggregator = DareTies(drop=drop, density=density, scale=0.8, seed=3)
    found = aggregator.aggregate(as_tensors(start), as_updates(states, counts))
    assert relative_error(found, expected) < 1e-12


def test_equals_peft_where_it_drops_the_same_entries():
    start, states, counts = one_round(0, 5)
    drawn = iter(
        torch.from_numpy(flat({name: keeps(state, name, 0.5, 0, 0) for name in start})).double() for state in states
    )
    vectors = [torch.from_numpy(flat(delta)) for delta in updates_of(start, states)]
    with patch.object(torch, "bernoulli", lambda *_, **__: next(drawn)):
        expected = peft_merging().dare_ties(vectors, torch.ones(5, dtype=torch.float64), 0.5)
    merged = DareTies(density=1.0).aggregate(as_tensors(start), as_updates(states, counts))
    found = flat({name: tensor.numpy() - start[name] for name, tensor in merged.items()})
    assert found == pytest.approx(expected.numpy(), rel=1e-9, abs=1e-12)


def test_nothing_dropped_is_ties():
    start, states, counts = one_round(0, 4)
    found = DareTies(drop=0).aggregate(as_tensors(start), as_updates(states, counts))
    expected = Ties().aggregate(as_tensors(start), as_updates(states, counts))
    assert all(torch.equal(found[name], expected[name]) for name in start)


def test_bad_options_are_named():
    for options in ({"drop": 1.0}, {"density": 0}, {"scale": "1"}, {"seed": None}):
        with pytest.raises(ValueError, match=f"^{next(iter(options))} = "):
            DareTies(**options)
