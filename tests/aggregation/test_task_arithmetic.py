"""Task arithmetic against the sum, and against peft."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcmp.aggregation import TaskArithmetic

from .oracle import as_tensors, as_updates, relative_error
from .oracle_baselines import flat, one_round, task_arithmetic, updates_of
from .peers import peft_merging


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.integers(1, 6), st.sampled_from([0.1, 0.3, 1.0]))
def test_is_the_scaled_sum_whatever_the_sample_counts(seed, clients, scale):
    start, states, counts = one_round(seed, clients)
    merged = TaskArithmetic(scale=scale).aggregate(as_tensors(start), as_updates(states, counts))
    assert relative_error(merged, task_arithmetic(start, states, scale)) < 1e-12


def test_equals_peft():
    start, states, _ = one_round(0, 5)
    merged = TaskArithmetic().aggregate(as_tensors(start), as_updates(states))
    vectors = [torch.from_numpy(flat(delta)) for delta in updates_of(start, states)]
    expected = peft_merging().task_arithmetic(vectors, torch.full((5,), 0.3, dtype=torch.float64))
    found = flat({name: tensor.numpy() - start[name] for name, tensor in merged.items()})
    assert found == pytest.approx(expected.numpy(), rel=1e-9, abs=1e-12)


def test_it_is_a_sum_that_grows_with_the_clients():
    start, states, _ = one_round(0, 1)
    for clients in (1, 5):
        merged = TaskArithmetic().aggregate(as_tensors(start), as_updates(states * clients))
        for name in start:
            assert merged[name].numpy() - start[name] == pytest.approx(0.3 * clients * (states[0][name] - start[name]))


def test_bad_option_is_named():
    with pytest.raises(ValueError, match="scale = -1: must be a number above 0"):
        TaskArithmetic(scale=-1)
