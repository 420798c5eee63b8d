"""TSV-M: the leading singular directions of every client, made orthogonal to those of the others.

    Delta_k ~ U_k S_k V_k^T                the leading max(1, floor(r / K)) directions, r = min(O, I)
    U = [U_1 | ... | U_K],  V likewise     U', V' = their polar factors: nearest to them with orthonormal columns
    W = W_g + scale U' diag(S_1, ..., S_K) V'^T
per weight matrix, its bias as one more input column.  Directions in which a client did not move are left out, and the
polar factors are taken over the directions in which U and V are not zero: where clients share one exactly, they share
its place.  U' depends on all clients at once, so the rule is no sum, and keeps their K updates (kept_updates.py).
Tensors that are no matrix get FedAvg's mean.  Implements docs/methods.md, TSV-M (Gargiulo et al. 2025).
Shapes: K clients, O outputs, I inputs (with the bias column), R directions of all clients.
"""

import torch
from torch import Tensor

from fedcmp.aggregation.kept_updates import KeptUpdates
from fedcmp.aggregation.options import require_number
from fedcmp.aggregation.registry import register
from fedcmp.aggregation.spectrum import leading_svd, polar_on_range


@register(
    "tsv", summary="the clients' leading directions, made orthogonal", paper="Gargiulo et al. 2025, arXiv 2412.00081"
)
class Tsv(KeptUpdates):
    """Task singular vectors, merged; every client counts the same.

    Args:
        scale: above 0.

    Raises:
        ValueError: an option out of range.
    """

    def __init__(self, *, scale: float = 1.0) -> None:
        require_number("scale", scale, 0, 1e6, above=True)
        super().__init__()
        self._scale = scale

    def _steps(self) -> dict[str, Tensor]:
        return {matrix.weight: self._step(matrix.weight) for matrix in self._matrices}

    def _step(self, name: str) -> Tensor:
        updates = self._updates(name)
        each = max(1, min(updates[0].shape) // len(updates))
        parts = [leading_svd(update_OI, most=each) for update_OI in updates]
        left_OR, scales_R, right_IR = (torch.cat(column, dim=-1) for column in zip(*parts, strict=True))
        self.last_diagnostics[f"rank.{name}"] = float(len(scales_R))
        if len(scales_R) == 0:
            return torch.zeros_like(updates[0])
        left_OR, right_IR = polar_on_range(left_OR)[0], polar_on_range(right_IR)[0]
        return (left_OR * (self._scale * scales_R)) @ right_IR.t()
