"""Orthogonality-preserved momentum: this round's basis is matched to the last one's, and mixed with it.

    d = mean_i (1 - <u_i, u_i^{t-1}>)                    after matching, so 0 <= d <= 1
    b = beta_min + (beta_max - beta_min) (1 - exp(-kappa d))
    U_t = polar(b U_{t-1} + (1 - b) U_new)               S_t = b S_{t-1} + (1 - b) S_new
Implements docs/methods.md, Fed-CMP, momentum.  Shapes: O outputs, I inputs, R kept directions, C columns in common.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fedcmp.aggregation.spectrum import Basis, polar

DEGENERATE = 1e-6  # a mix with a smaller singular value has lost a direction: old and new cancel there


@dataclass(frozen=True)
class Momentum:
    """How strongly the last round holds this one back.

    Attributes:
        beta_min: b where nothing has turned.
        beta_max: b that is approached as everything turns.
        kappa: how fast.
    """

    beta_min: float
    beta_max: float
    kappa: float

    def beta(self, divergence: float) -> float:
        """Return b for d >= 0."""
        return self.beta_min + (self.beta_max - self.beta_min) * (1 - math.exp(-self.kappa * divergence))


@dataclass(frozen=True)
class Turn:
    """How a round's merged matrix is read in the new basis and written in the mixed one.

    Attributes:
        read: (O, R) the new basis after matching; coefficients are read^T W.
        write: the mixed basis U_t with its scales S_t, remembered for the next round.
        gain: (R,) S_t / S_new, applied to the coefficients.
        divergence: d, or None in a first round.
        beta: b, 0 when the new basis is kept as it is.
    """

    read: Tensor
    write: Basis
    gain: Tensor
    divergence: float | None
    beta: float

    def apply(self, matrix_OI: Tensor, *, keep_rest: bool) -> Tensor:
        """Return U_t (S_t / S) U_new^T W, with `keep_rest` plus what of W lies outside U_new."""
        coefficients_RI = self.read.t() @ matrix_OI
        moved_OI = self.write.directions @ (self.gain[:, None] * coefficients_RI)
        if keep_rest:
            moved_OI += matrix_OI - self.read @ coefficients_RI
        return moved_OI


def stand(new: Basis, divergence: float | None = None) -> Turn:
    """Return the turn that uses a basis as it is: a first round, no momentum, or a mix that degenerated."""
    return Turn(new.directions, new, torch.ones_like(new.scales), divergence, 0.0)


def turn_by_sign(new: Basis, previous: Basis, momentum: Momentum) -> Turn:
    """Match column by column, up to sign, then mix bases and scales (as published).

    Args:
        new: this round's basis (O, R).
        previous: what the last round remembered; where the ranks differ, the common leading columns are matched and
            mixed, the rest of the new ones enter as they are.
        momentum: the strength.

    Returns:
        The turn; the new basis alone where the mix degenerates.
    """
    common = min(new.directions.shape[1], previous.directions.shape[1])
    old_OC = previous.directions[:, :common]
    matched_OR = new.directions.clone()
    cosines_C = (matched_OR[:, :common] * old_OC).sum(0)
    matched_OR[:, :common] *= torch.where(cosines_C < 0, -1.0, 1.0).to(cosines_C)
    divergence = float((1 - cosines_C.abs()).mean().clamp(min=0))
    beta = momentum.beta(divergence)
    scales_R = new.scales.clone()
    scales_R[:common] = beta * previous.scales[:common] + (1 - beta) * new.scales[:common]
    mixed_OR = _mix(old_OC, matched_OR, beta)
    if mixed_OR is None:
        return stand(new, divergence)
    return Turn(matched_OR, Basis(mixed_OR, scales_R), scales_R / new.scales, divergence, beta)


def turn_by_procrustes(new: Basis, previous: Basis, momentum: Momentum) -> Turn:
    """Rotate the new basis onto the last one inside its subspace, then mix the bases.

    R = polar(U_new^T U_{t-1}) and U' = U_new R: blind to the sign, order and rotation of the new columns.  The scales
    belong to no single column of U', so they have no momentum.

    Args:
        new: this round's basis (O, R).
        previous: what the last round remembered, as in `turn_by_sign`.
        momentum: the strength; d = 1 - mean singular value of U_new^T U_{t-1}.

    Returns:
        The turn; the new basis alone where the mix degenerates.
    """
    common = min(new.directions.shape[1], previous.directions.shape[1])
    old_OC = previous.directions[:, :common]
    rotation_CC, cosines_C = polar(new.directions[:, :common].t() @ old_OC)
    matched_OR = new.directions.clone()
    matched_OR[:, :common] = new.directions[:, :common] @ rotation_CC
    divergence = float((1 - cosines_C).mean().clamp(min=0))
    beta = momentum.beta(divergence)
    mixed_OR = _mix(old_OC, matched_OR, beta)
    if mixed_OR is None:
        return stand(new, divergence)
    return Turn(matched_OR, Basis(mixed_OR, new.scales), torch.ones_like(new.scales), divergence, beta)


def _mix(old_OC: Tensor, matched_OR: Tensor, beta: float) -> Tensor | None:
    """Return polar(b old + (1 - b) new), the columns without an old one taken from the new, or None if degenerate."""
    mix_OR = matched_OR.clone()
    mix_OR[:, : old_OC.shape[1]] = beta * old_OC + (1 - beta) * matched_OR[:, : old_OC.shape[1]]
    mixed_OR, singular_R = polar(mix_OR)
    return None if float(singular_R.min()) < DEGENERATE else mixed_OR
