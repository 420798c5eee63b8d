"""Iso-C: the sum of the updates, with all its singular values made equal.

    sum_k Delta_k = U S V^T,    W = W_g + alpha mean(S) U V^T       per weight matrix, its bias as one more input column
U V^T over the directions in which the sum is not zero; mean(S) over all min(O, I) of them.  Tensors that are no matrix
get FedAvg's mean.  A client adds Delta_k to the sums.  The step is that of Muon on the server, as long as the mean
singular value says.
Implements docs/methods.md, Iso-C (Marczak et al. 2025).  Shapes: O outputs, I inputs (with the bias column).
"""

from collections.abc import Mapping

from torch import Tensor

from fedcmp.aggregation.matrix_rule import MatrixRule
from fedcmp.aggregation.options import require_number
from fedcmp.aggregation.registry import register
from fedcmp.aggregation.spectrum import polar_on_range


@register(
    "iso-c", summary="sum of the updates with equal singular values", paper="Marczak et al. 2025, arXiv 2502.04959"
)
class IsoC(MatrixRule):
    """Isotropic merging; every client counts the same.

    Args:
        alpha: above 0; 1 / K has the mean of the updates in place of their sum.

    Raises:
        ValueError: an option out of range.
    """

    def __init__(self, *, alpha: float = 1.0) -> None:
        require_number("alpha", alpha, 0, 1e6, above=True)
        super().__init__()
        self._alpha = alpha

    def _shapes(self, outputs: int, inputs: int) -> dict[str, tuple[int, int]]:
        return {"update": (outputs, inputs)}

    def _terms(self, delta_OI: Tensor, sent: Tensor | None) -> dict[str, Tensor]:  # noqa: ARG002  # nothing is sent
        return {"update": delta_OI}

    def _step(self, name: str, sums: Mapping[str, Tensor]) -> Tensor:  # noqa: ARG002  # nothing to report
        factor_OI, singular_R = polar_on_range(sums["update"])
        return factor_OI * (self._alpha * singular_R.mean())
