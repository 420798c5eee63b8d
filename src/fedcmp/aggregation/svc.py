"""SVC: FedAvg's mean update, its singular values calibrated where clients' shares pile up or get lost.

    D = sum_k (n_k / n) Delta_k = U S V^T                per weight matrix, its bias as one more input column
    s_ri = <u_r^T D, u_r^T Delta_i> / ||u_r^T Delta_i||^2     how much of client i's response along u_r the mean holds
    gamma_r = K / sum_i max(alpha, s_ri),    W = W_g + U diag(gamma) S V^T
A client without a response along u_r (none beyond single precision's rounding of its update) counts alpha.
S V^T = U^T D, so V is not needed, and what counts as rounding in D is left as it is.  U is known only when all clients
are in: the rule keeps their K updates (kept_updates.py), and would be a sum in two exchanges, D and then
max(alpha, s_ri).  Tensors that are no matrix get FedAvg's mean.
Implements docs/methods.md, SVC (Li et al. 2026).
Shapes: K clients, O outputs, I inputs (with the bias column), R directions.
"""

import torch
from torch import Tensor

from fedcmp.aggregation.base import AddsUp
from fedcmp.aggregation.kept_updates import KeptUpdates
from fedcmp.aggregation.options import require_number
from fedcmp.aggregation.registry import register
from fedcmp.aggregation.spectrum import leading_svd

ROUNDING = torch.finfo(torch.float32).eps


@register("svc", summary="FedAvg with calibrated singular values", paper="Li et al. 2026, arXiv 2602.05536")
class Svc(KeptUpdates):
    """Singular value calibration of the weighted mean.

    Args:
        alpha: in (0, 1]; none for 1 / K, with which directions of a single client get the length that it gave them. 1
            never lengthens a direction.

    Raises:
        ValueError: an option out of range.
    """

    adds_up: AddsUp = "in two exchanges"

    def __init__(self, *, alpha: float | None = None) -> None:
        if alpha is not None:
            require_number("alpha", alpha, 0, 1, above=True)
        super().__init__()
        self._alpha = alpha

    def _weights(self) -> list[float]:
        return [count / sum(self._counts) for count in self._counts]

    def _steps(self) -> dict[str, Tensor]:
        return {matrix.weight: self._step(matrix.weight) for matrix in self._matrices}

    def _step(self, name: str) -> Tensor:
        updates = self._updates(name)
        mean_OI = torch.zeros_like(updates[0])
        for share, update_OI in zip(self.last_weights, updates, strict=True):
            mean_OI.add_(update_OI, alpha=share)
        basis_OR, _, _ = leading_svd(mean_OI)
        factors_R = self._factors(basis_OR, mean_OI, updates)
        self.last_diagnostics[f"calibration.{name}"] = float(factors_R.mean()) if len(factors_R) else 1.0
        return mean_OI + (basis_OR * (factors_R - 1)) @ (basis_OR.t() @ mean_OI)

    def _factors(self, basis_OR: Tensor, mean_OI: Tensor, updates: list[Tensor]) -> Tensor:
        """Return gamma (R,)."""
        least = 1 / len(updates) if self._alpha is None else self._alpha
        held_RI = basis_OR.t() @ mean_OI
        total_R = held_RI.new_zeros(len(held_RI))
        for update_OI in updates:
            response_RI = basis_OR.t() @ update_OI
            length_R = response_RI.norm(dim=1)
            share_R = (held_RI * response_RI).sum(dim=1) / length_R.square()
            # the share that is held of what is rounding could be anything
            responds_R = length_R > ROUNDING * update_OI.norm()
            total_R += torch.where(responds_R, share_R, least).clamp(min=least)
        return len(updates) / total_R
