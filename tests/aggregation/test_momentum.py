"""Matching and mixing of bases: the cases that the comparison over rounds does not single out."""

import math

import pytest
import torch

from fedcmp.aggregation.momentum import Momentum, stand, turn_by_procrustes, turn_by_sign
from fedcmp.aggregation.spectrum import Basis

MOMENTUM = Momentum(0.5, 0.9, 1.0)
TURNS = pytest.mark.parametrize("turn", [turn_by_sign, turn_by_procrustes])


def basis(seed, rank, rows=6):
    generator = torch.Generator().manual_seed(seed)
    directions = torch.linalg.qr(torch.randn(rows, rank, generator=generator, dtype=torch.float64))[0]
    return Basis(directions, torch.arange(rank, 0, -1, dtype=torch.float64))


def test_beta_goes_from_min_to_max():
    assert MOMENTUM.beta(0.0) == 0.5
    assert MOMENTUM.beta(1.0) == pytest.approx(0.9 - 0.4 / math.e)
    assert MOMENTUM.beta(100.0) == pytest.approx(0.9)


@TURNS
def test_unturned_basis_is_kept_and_signs_do_not_matter(turn):
    old = basis(0, 4)
    flipped = Basis(old.directions * torch.tensor([1.0, -1.0, -1.0, 1.0]), old.scales)
    turned = turn(flipped, old, MOMENTUM)
    assert turned.divergence == pytest.approx(0, abs=1e-12)
    assert turned.beta == pytest.approx(0.5)
    assert torch.allclose(turned.write.directions, old.directions)
    matrix = torch.randn(6, 3, generator=torch.Generator().manual_seed(1)).double()
    assert torch.allclose(turned.apply(matrix, keep_rest=True), matrix)


def test_rotation_inside_the_subspace_is_undone_by_procrustes_only():
    old = basis(0, 3)
    rotation = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(5)).double())[0]
    new = Basis(old.directions @ rotation, old.scales)
    assert turn_by_procrustes(new, old, MOMENTUM).divergence == pytest.approx(0, abs=1e-12)
    assert turn_by_sign(new, old, MOMENTUM).divergence > 0.05


@TURNS
@pytest.mark.parametrize(("before", "now"), [(2, 4), (4, 2), (1, 6), (6, 1)])
def test_change_of_rank_mixes_the_leading_columns(turn, before, now):
    new, old = basis(1, now), basis(2, before)
    turned = turn(new, old, MOMENTUM)
    mixed = turned.write.directions
    assert mixed.shape == (6, now)
    assert torch.allclose(mixed.T @ mixed, torch.eye(now).double())
    if turn is turn_by_sign:
        common, beta = min(before, now), turned.beta
        expected = beta * old.scales[:common] + (1 - beta) * new.scales[:common]
        assert torch.allclose(turned.write.scales[:common], expected)
        assert torch.equal(turned.write.scales[common:], new.scales[common:])


def test_degenerate_mix_keeps_the_new_basis():
    old = Basis(torch.eye(4).double(), torch.ones(4).double())
    new = Basis(torch.eye(4).double()[:, [1, 0, 3, 2]], 2 * torch.ones(4).double())  # at b = 1/2, swaps cancel
    turned = turn_by_sign(new, old, Momentum(0.5, 0.5, 1.0))
    assert turned.beta == 0
    assert turned.divergence == 1
    assert torch.equal(turned.write.directions, new.directions)
    assert torch.equal(turned.write.scales, new.scales)


def test_procrustes_meets_a_basis_at_right_angles():
    eye = torch.eye(4).double()
    turned = turn_by_procrustes(Basis(eye[:, 2:], torch.ones(2)), Basis(eye[:, :2], torch.ones(2)), MOMENTUM)
    mixed = turned.write.directions
    assert turned.divergence == 1
    assert torch.allclose(mixed.T @ mixed, torch.eye(2).double())


def test_standing_basis_reads_and_writes_alike():
    new = basis(0, 2)
    matrix = torch.ones(6, 3).double()
    kept = stand(new).apply(matrix, keep_rest=True)
    dropped = stand(new).apply(matrix, keep_rest=False)
    assert torch.allclose(kept, matrix)
    assert torch.allclose(dropped, new.directions @ new.directions.T @ matrix)
