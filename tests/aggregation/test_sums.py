"""The weighted mean by running sums."""

import numpy as np
import pytest
import torch

from fedcmp.aggregation.sums import MeanUpdate


def fold(scores, counts, deltas, moments=None, **options):
    sums = MeanUpdate({"w": torch.zeros(deltas.shape[1:])}, **options)
    for k, delta in enumerate(deltas):
        moment = None if moments is None else {"w": torch.from_numpy(moments[k])}
        sums.add({"w": torch.from_numpy(delta)}, score=scores[k], count=counts[k], moments=moment)
    return sums.finish()["w"].numpy(), sums.shares()


def by_formula(a, deltas, moments, p, damping):
    average = sum(a_k * v**p for a_k, v in zip(a, moments, strict=True))
    weights = [a_k * (v**p + damping * average.mean()) for a_k, v in zip(a, moments, strict=True)]
    return sum(w * d for w, d in zip(weights, deltas, strict=True)) / sum(weights)


@pytest.mark.parametrize("exponent", [None, 0.0, 0.5, 2.0])
@pytest.mark.parametrize("scores", [[1.0, 2.0, 0.5], [0.0, 0.0, 0.0], [0.0, 3.0, 0.0], [1e-30, 0.0, 2e-30]])
def test_equals_the_formula_and_falls_back_to_counts(exponent, scores):
    rng = np.random.default_rng(0)
    deltas, moments, counts = rng.standard_normal((3, 4, 2)), rng.random((3, 4, 2)), [5, 1, 2]
    found, shares = fold(scores, counts, deltas, moments, exponent=exponent, damping=0.01)
    a = np.array(scores if any(scores) else counts, float)
    a /= a.sum()
    expected = np.einsum("k,kij->ij", a, deltas) if exponent is None else by_formula(a, deltas, moments, exponent, 0.01)
    assert found == pytest.approx(expected, rel=1e-12)
    assert shares == pytest.approx(a)


def test_parameter_that_nobody_used_gets_the_plain_mean():
    deltas, moments = np.array([[1.0, 1.0], [3.0, 3.0]]), np.array([[0.0, 1.0], [0.0, 0.0]])
    found, _ = fold([1.0, 1.0], [1, 1], deltas, moments, exponent=0.5, damping=0.0)
    assert found.tolist() == [2.0, 1.0]


def test_sums_take_the_same_memory_for_any_number_of_clients():
    sums = MeanUpdate({"w": torch.zeros(3)}, exponent=0.5)
    held = [id(t) for part in (sums._deltas, sums._powers, sums._powered_deltas) for t in part.values()]
    for _ in range(4):
        sums.add({"w": torch.ones(3).double()}, score=1.0, count=1, moments={"w": torch.ones(3).double()})
    assert held == [id(t) for part in (sums._deltas, sums._powers, sums._powered_deltas) for t in part.values()]
