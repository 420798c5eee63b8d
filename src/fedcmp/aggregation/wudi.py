"""WUDI: the update that disturbs the clients' own layers least, from two sums.

    L(D) = sum_k ||(D - Delta_k) Delta_k^T||^2 / ||Delta_k||^2     per weight matrix, its bias as one more input column
    dL/dD = 2 (D A - B),    A = sum_k G_k,   B = sum_k Delta_k G_k,   G_k = Delta_k^T Delta_k / ||Delta_k||^2
    steps = 0:   D = B A^+                                            where the gradient is 0 and D is shortest
    steps > 0:   that number of Adam steps from  D = sum_k Delta_k        the published procedure
    W = W_g + D
Both forms need sums over clients only: A, B, and for the second sum_k Delta_k.  A client that did not move adds
nothing.  Tensors that are no matrix get FedAvg's mean.
Implements docs/methods.md, WUDI (Cheng et al. 2025).  Shapes: O outputs, I inputs (with the bias column).
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from fedcmp.aggregation.matrix_rule import MatrixRule
from fedcmp.aggregation.options import require_number
from fedcmp.aggregation.registry import register
from fedcmp.aggregation.spectrum import divide

MOST_STEPS = 100_000


@register(
    "wudi",
    summary="the update that disturbs the clients' layers least, in closed form",
    paper="Cheng et al. 2025, arXiv 2503.08099",
)
class Wudi(MatrixRule):
    """Least interference; every client counts the same.

    Args:
        cutoff: eigenvalues of A up to this share of its largest count as zero, in [0, 1).
        steps: 0 for the closed form; the paper's figures are of 300 steps.
        learning_rate: of these steps, above 0; idle in closed form.

    Raises:
        ValueError: an option out of range.
    """

    def __init__(self, *, cutoff: float = 1e-8, steps: int = 0, learning_rate: float = 1e-5) -> None:
        require_number("cutoff", cutoff, 0, 0.999)
        require_number("steps", steps, 0, MOST_STEPS)
        require_number("learning_rate", learning_rate, 0, 1e6, above=True)
        if not isinstance(steps, int):
            raise ValueError(f"steps = {steps!r}: must be a whole number")
        super().__init__()
        self._cutoff, self._steps, self._rate = cutoff, steps, learning_rate

    def _shapes(self, outputs: int, inputs: int) -> dict[str, tuple[int, int]]:
        shapes = {"gram": (inputs, inputs), "update_gram": (outputs, inputs)}
        return shapes | {"update": (outputs, inputs)} if self._steps else shapes

    def _terms(self, delta_OI: Tensor, sent: Tensor | None) -> dict[str, Tensor]:  # noqa: ARG002  # nothing is sent
        length = delta_OI.norm()
        unit_OI = delta_OI / length if length > 0 else delta_OI
        gram_II = unit_OI.t() @ unit_OI
        terms = {"gram": gram_II, "update_gram": delta_OI @ gram_II}
        return terms | {"update": delta_OI} if self._steps else terms

    def _step(self, name: str, sums: Mapping[str, Tensor]) -> Tensor:
        if self._steps:
            return self._descended(sums)
        step_OI, rank = divide(sums["update_gram"], sums["gram"], cutoff=self._cutoff)
        self.last_diagnostics[f"rank.{name}"] = float(rank)
        return step_OI

    def _descended(self, sums: Mapping[str, Tensor]) -> Tensor:
        """Return D after the steps of Adam."""
        step_OI = sums["update"].clone()
        optimizer = torch.optim.Adam([step_OI], lr=self._rate)
        for _ in range(self._steps):
            step_OI.grad = 2 * (step_OI @ sums["gram"] - sums["update_gram"])
            optimizer.step()
        return step_OI.detach()
