"""The weighted mean by running sums."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedcmp.aggregation.sums import MeanUpdate, add_exactly


def fold(scores, deltas, moments=None, **options):
    mean = MeanUpdate(**options)
    sums = mean.zeros({"w": torch.zeros(deltas.shape[1:])})
    for k, delta in enumerate(deltas):
        moment = None if moments is None else {"w": torch.from_numpy(moments[k])}
        mean.add(sums, {"w": torch.from_numpy(delta)}, weight=scores[k], moments=moment)
    return mean.finish(sums, total=sum(scores) or 1.0)["w"].numpy()


def by_formula(a, deltas, moments, p, damping):
    average = sum(a_k * v**p for a_k, v in zip(a, moments, strict=True))
    weights = [a_k * (v**p + damping * average.mean()) for a_k, v in zip(a, moments, strict=True)]
    return sum(w * d for w, d in zip(weights, deltas, strict=True)) / sum(weights)


@pytest.mark.parametrize("exponent", [None, 0.0, 0.5, 2.0])
@pytest.mark.parametrize("scores", [[1.0, 2.0, 0.5], [0.0, 3.0, 0.0], [1e-30, 0.0, 2e-30]])
def test_equals_the_formula(exponent, scores):
    rng = np.random.default_rng(0)
    deltas, moments = rng.standard_normal((3, 4, 2)), rng.random((3, 4, 2))
    found = fold(scores, deltas, moments, exponent=exponent, damping=0.01)
    a = np.array(scores) / sum(scores)
    expected = np.einsum("k,kij->ij", a, deltas) if exponent is None else by_formula(a, deltas, moments, exponent, 0.01)
    assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("exponent", [None, 0.5])
def test_nobody_with_a_weight_moves_nothing(exponent):
    deltas = np.ones((2, 3))
    assert fold([0.0, 0.0], deltas, deltas, exponent=exponent, damping=0.01).tolist() == [0.0] * 3


def test_parameter_that_nobody_used_gets_the_plain_mean():
    deltas, moments = np.array([[1.0, 1.0], [3.0, 3.0]]), np.array([[0.0, 1.0], [0.0, 0.0]])
    found = fold([1.0, 1.0], deltas, moments, exponent=0.5, damping=0.0)
    assert found.tolist() == [2.0, 1.0]


def test_sums_take_the_same_memory_for_any_number_of_clients():
    mean = MeanUpdate(exponent=0.5)
    sums = mean.zeros({"w": torch.zeros(3)})
    held = {name: id(tensor) for name, tensor in sums.items()}
    assert len(held) == 3
    for _ in range(4):
        mean.add(sums, {"w": torch.ones(3).double()}, weight=1.0, moments={"w": torch.ones(3).double()})
    assert held == {name: id(tensor) for name, tensor in sums.items()}


# every bit of float64, on one grid: what is lost is known exactly, so no sum lies a hair beside a tie
numbers = st.integers(0, 2**53).map(lambda value: value * 2.0**-30)


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=30), st.randoms(use_true_random=False))
def test_a_sum_in_two_parts_is_the_correctly_rounded_one_in_any_order(values, random):
    expected = [math.fsum(column) for column in zip(*values, strict=True)]
    for _ in range(3):
        total, rest = torch.zeros(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
        for value in values:
            add_exactly(total, rest, torch.tensor(value, dtype=torch.float64))
        assert (total + rest).tolist() == expected
        random.shuffle(values)


def test_a_sum_in_two_parts_keeps_what_large_values_would_swallow():
    total, rest = torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    for value in (1e16, 1.0, 1.0, -1e16):
        add_exactly(total, rest, torch.tensor([value], dtype=torch.float64))
    assert float(total + rest) == 2.0
