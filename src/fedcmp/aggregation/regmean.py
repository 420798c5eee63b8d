"""RegMean: each matrix is fitted to what the clients' own matrices make of their inputs.

    W = argmin sum_k n_k mean ||W x - W_k x||^2  =  [sum_k n_k W_k C~_k] [sum_k n_k C~_k]^-1
    C~_k = a C_k + (1 - a) diag(C_k) + damping mean(diag C_k) I              C_k = client k's mean of x x^T
per weight matrix with its bias as one more input column, x what the layer is fed, with a one behind it.  a and damping
are stated options; without them (a = 1, damping = 0) this is the minimum itself.  Worked out on Delta_k in place of
W_k, which is the same.  Tensors that are no matrix get FedAvg's mean.
A client adds n_k Delta_k C~_k and n_k C~_k to the sums.
Implements docs/methods.md, RegMean (Jin et al. 2023).  Shapes: O outputs, I inputs (with the bias column).
"""

from collections.abc import Mapping

from torch import Tensor

from fedcmp.aggregation.input_space import grams_of
from fedcmp.aggregation.labels import GRAM
from fedcmp.aggregation.matrix_rule import MatrixRule
from fedcmp.aggregation.options import require_number
from fedcmp.aggregation.registry import register
from fedcmp.aggregation.spectrum import divide
from fedcmp.aggregation.update import ClientUpdate, Public

_MEND = "the client's training must measure it (docs/methods.md, steps)"


@register(
    "regmean",
    summary="layers fitted to the clients' outputs on their inputs",
    paper="Jin et al. 2023, arXiv 2212.09849",
)
class RegMean(MatrixRule):
    """Regression mean, weighted by samples as the mean squared error is.

    Args:
        off_diagonal: a in [0, 1]: what is left of a Gram matrix's entries off its diagonal.
        damping: share of its mean diagonal entry that is added to the diagonal. As each client's own is damped, large
            damping leads to a weighted mean, not to standing still.

    Raises:
        ValueError: an option out of range.
    """

    def __init__(self, *, off_diagonal: float = 0.95, damping: float = 0.001) -> None:
        require_number("off_diagonal", off_diagonal, 0, 1)
        require_number("damping", damping, 0, 1e6)
        super().__init__()
        self.needs, self.extras = frozenset({"extra"}), frozenset({GRAM})
        self._off_diagonal, self._damping = off_diagonal, damping

    def _weight(self, update: ClientUpdate) -> float:
        return float(int(update.num_examples))

    def _sent(self, place: str, update: ClientUpdate, public: Public) -> dict[str, Tensor]:
        return grams_of(place, update, public.state, mend=_MEND)

    def _shapes(self, outputs: int, inputs: int) -> dict[str, tuple[int, int]]:
        return {"gram": (inputs, inputs), "fitted": (outputs, inputs)}

    def _terms(self, delta_OI: Tensor, sent: Tensor | None) -> dict[str, Tensor]:
        assert sent is not None  # _sent has one for every matrix
        diagonal_I = sent.diagonal()
        scaled_II = sent * self._off_diagonal
        scaled_II.diagonal().copy_(diagonal_I + self._damping * diagonal_I.mean())
        return {"gram": scaled_II, "fitted": delta_OI @ scaled_II}

    def _step(self, name: str, sums: Mapping[str, Tensor]) -> Tensor:  # noqa: ARG002  # nothing to report
        step_OI, _ = divide(sums["fitted"], sums["gram"], cutoff=0.0)
        return step_OI
