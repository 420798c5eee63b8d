"""TIES against its formula and against peft on one flat vector."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcmp.aggregation import Ties

from .oracle import as_tensors, as_updates, relative_error
from .oracle_baselines import flat, one_round, ties, updates_of
from .peers import peft_merging


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    st.integers(0, 10**6), st.integers(1, 6), st.sampled_from([0.01, 0.2, 0.5, 1.0]), st.sampled_from([0.3, 1.0, 2.0])
)
def test_equals_formula(seed, clients, density, scale):
    start, states, counts = one_round(seed, clients)
    aggregator = Ties(density=density, scale=scale)
    merged = aggregator.aggregate(as_tensors(start), as_updates(states, counts))
    assert relative_error(merged, ties(start, states, density, scale)) < 1e-12
    assert aggregator.last_weights == [1 / clients] * clients


@pytest.mark.filterwarnings("ignore:The density 1.0")
@pytest.mark.parametrize("density", [0.2, 0.55, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_peft_on_one_flat_vector(density, dtype):
    start, states, counts = one_round(0, 5, sizes=((40, 30), (20, 40)))
    zero = {name: 0 * array for name, array in start.items()}
    merged = Ties(density=density).aggregate(as_tensors(zero, dtype), as_updates(states, counts, dtype=dtype))
    vectors = [torch.from_numpy(flat(delta)).to(dtype) for delta in updates_of(zero, states)]
    expected = peft_merging().ties(vectors, torch.ones(5, dtype=dtype), density)
    found = flat({name: tensor.double().numpy() for name, tensor in merged.items()})
    assert found == pytest.approx(expected.double().numpy(), rel=1e-5, abs=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"density": 0}, "density = 0: must be a number above 0 and at most 1"),
        ({"density": 1.5}, "density = 1.5"),
        ({"scale": 0}, "scale = 0: must be a number above 0"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        Ties(**options)
