"""Gram sums, eigenvectors, bases and polar factors against NumPy."""

import numpy as np
import pytest
import torch

from fedcmp.aggregation import spectrum
from fedcmp.aggregation.spectrum import (
    add_gram,
    divide,
    leading_basis,
    leading_svd,
    polar,
    polar_on_range,
    symmetric_eigen,
)


def gram_of(matrices, products=torch.float64):
    total = torch.zeros(len(matrices[0]), len(matrices[0]), dtype=torch.float64)
    for matrix in matrices:
        add_gram(total, torch.from_numpy(matrix), products=products)
    return total


@pytest.mark.parametrize(("products", "tolerance"), [(torch.float64, 1e-14), (torch.float32, 1e-6)])
@pytest.mark.parametrize("scale", [1.0, 1e30, 1e-30, 0.0])
@pytest.mark.parametrize("rows", [1, 3, 8, 37])
def test_gram_is_the_lower_triangle_of_the_sum(products, tolerance, scale, rows):
    rng = np.random.default_rng(rows)
    matrices = [scale * rng.standard_normal((rows, 5)) for _ in range(3)]
    expected = sum(matrix @ matrix.T for matrix in matrices)
    found = gram_of(matrices, products).numpy()
    assert np.abs(np.tril(found) - np.tril(expected)).max() <= tolerance * np.abs(expected).max()


@pytest.mark.parametrize("small", [0, 512], ids=["scipy", "torch"])
@pytest.mark.parametrize("leading", [None, 1, 4, 30, 99])
def test_eigenvectors_come_strongest_first_by_either_library(monkeypatch, small, leading):
    monkeypatch.setattr(spectrum, "SMALL", small)
    matrix = np.random.default_rng(0).standard_normal((40, 40))
    matrix = matrix + matrix.T
    values, vectors = symmetric_eigen(torch.from_numpy(np.tril(matrix)), leading=leading)
    assert values.numpy() == pytest.approx(np.linalg.eigvalsh(matrix)[::-1][: leading or 40])
    assert matrix @ vectors.numpy() == pytest.approx(vectors.numpy() * values.numpy(), abs=1e-10)
    assert (vectors.T @ vectors).numpy() == pytest.approx(np.eye(len(values)), abs=1e-12)


@pytest.mark.parametrize(("rank", "kept"), [("full", 4), (2, 2), (9, 4), (0.5, 1), (0.79, 1), (0.81, 2), (0.9999, 4)])
def test_rank_by_rounding_number_or_energy(rank, kept):
    directions = np.linalg.qr(np.random.default_rng(1).standard_normal((6, 6)))[0]
    scales = np.array([0.0, 3.5, 1.0, 0.5, 0.0, 0.0])
    scales[0] = np.sqrt(4 * (scales[1:] ** 2).sum())  # the first direction holds .8 of the energy
    gram = gram_of([directions * scales / np.sqrt(2)] * 2)
    basis = leading_basis(gram, rank=rank, clients=2, precision=2.0**-52)
    assert basis.scales.numpy() == pytest.approx(scales[:kept] / np.sqrt(2))
    assert np.abs(basis.directions.numpy().T @ directions[:, :kept]) == pytest.approx(np.eye(kept), abs=1e-7)


def test_zero_matrices_have_no_basis():
    assert leading_basis(torch.zeros(3, 3).double(), rank="full", clients=2, precision=1e-16) is None


@pytest.mark.parametrize("smallest", [1.0, 0.3, 1e-3, 1e-5, 1e-8])
def test_polar_is_orthonormal_and_nearest_at_any_condition(smallest):
    rng = np.random.default_rng(2)
    p = np.linalg.qr(rng.standard_normal((9, 5)))[0]
    q = np.linalg.qr(rng.standard_normal((5, 5)))[0]
    singular = np.geomspace(1, smallest, 5)
    factor, found = polar(torch.from_numpy(p * singular @ q.T))
    assert (factor.T @ factor).numpy() == pytest.approx(np.eye(5), abs=1e-7)
    assert factor.numpy() == pytest.approx(p @ q.T, abs=1e-7)
    assert found.numpy() == pytest.approx(singular, rel=1e-6)


@pytest.mark.parametrize("diagonal", [[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
def test_polar_of_a_singular_matrix_is_still_orthonormal(diagonal):
    factor, singular = polar(torch.diag(torch.tensor(diagonal)).double())
    assert torch.allclose(factor.T @ factor, torch.eye(3).double())
    assert singular.min() == 0


@pytest.mark.parametrize(("rows", "columns"), [(6, 4), (4, 6), (5, 5), (1, 3)])
@pytest.mark.parametrize("most", [None, 2])
def test_leading_directions_are_the_svds(rows, columns, most):
    matrix = np.random.default_rng(3).standard_normal((rows, columns))
    left, scales, right = leading_svd(torch.from_numpy(matrix), most=most)
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    kept = len(s) if most is None else min(most, len(s))
    assert scales.numpy() == pytest.approx(s[:kept])
    assert ((left * scales) @ right.T).numpy() == pytest.approx((u[:, :kept] * s[:kept]) @ vt[:kept])
    assert (right.T @ right).numpy() == pytest.approx(np.eye(kept), abs=1e-9)


def test_directions_that_are_rounding_are_left_out():
    left, scales, right = leading_svd(torch.ones(4, 3).double())
    assert (left.shape, scales.shape, right.shape) == ((4, 1), (1,), (3, 1))
    assert [part.shape[-1] for part in leading_svd(torch.zeros(4, 3).double())] == [0, 0, 0]


@pytest.mark.parametrize("shape", [(6, 4), (4, 6)])
@pytest.mark.parametrize("rank", [0, 1, 3, 4])
def test_the_polar_factor_on_the_range_fills_nothing_up(shape, rank):
    rng = np.random.default_rng(4)
    p, q = (np.linalg.qr(rng.standard_normal((size, size)))[0][:, :rank] for size in shape)
    singular = np.geomspace(1, 1e-3, 4)[:rank]
    factor, found = polar_on_range(torch.from_numpy(p * singular @ q.T))
    assert factor.numpy() == pytest.approx(p @ q.T, abs=1e-9)
    assert found.numpy() == pytest.approx([*singular, *[0.0] * (4 - rank)], abs=1e-12)


@pytest.mark.parametrize(("cutoff", "rank"), [(0.0, 3), (1e-3, 2), (0.5, 1)])
def test_division_is_by_the_pseudo_inverse(cutoff, rank):
    rng = np.random.default_rng(5)
    q = np.linalg.qr(rng.standard_normal((4, 4)))[0]
    gram = q * [2.0, 0.1, 1e-4, 0.0] @ q.T
    matrix = rng.standard_normal((3, 4))
    found, kept = divide(torch.from_numpy(matrix), torch.from_numpy(gram), cutoff=cutoff)
    inverse = np.diag(np.array([0.5, 10, 1e4, 0]) * (np.arange(4) < rank))
    assert kept == rank
    assert found.numpy() == pytest.approx(matrix @ q @ inverse @ q.T, rel=1e-6, abs=1e-6)


def test_nothing_divided_by_nothing_is_nothing():
    found, kept = divide(torch.zeros(2, 3).double(), torch.zeros(3, 3).double(), cutoff=0.0)
    assert (kept, found.abs().max()) == (0, 0)
