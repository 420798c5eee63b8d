"""FOOF: the gradient over the layer's inputs' second moment. The client's half of FedPM.

Per weight matrix with its bias as one more column, G (O, I):
    direction = G C~^-1              C~: the client's own running C, damped (input_moments.py)
A server that reads Gram matrices is sent C~ of the last step: with RegMean, W = [sum_k W_k C~_k] [sum_k C~_k]^-1, that
is FedPM. Other tensors: AdamW.
Implements docs/methods.md, FOOF (Benzing 2022, arXiv 2201.12250) and FedPM (2026, arXiv 2511.09100).
Shapes: C learners, A of them active, O outputs, I inputs (with the bias column).
"""

from collections.abc import Mapping

from torch import Tensor

from fedcmp.aggregation.labels import GRAM
from fedcmp.aggregation.options import require_number
from fedcmp.client.local_round import LocalRound
from fedcmp.client.optimizer import Optimisation
from fedcmp.client.steps.input_moments import InputMoments, SeesInputs, divided
from fedcmp.client.steps.matrix_optimizer import MatrixOptimizer
from fedcmp.client.steps.registry import register_step

RATE_FACTOR, REST_RATE = 1e4, 1e-4  # of its rate over AdamW's, and back: its steps are as long as gradients are


@register_step(
    "foof",
    summary="gradient over the second moment of a layer's inputs",
    paper="Benzing 2022, arXiv 2201.12250; FedPM, 2026, arXiv 2511.09100",
    rate_factor=RATE_FACTOR,
)
class Foof(SeesInputs):
    """FOOF.

    Args:
        damping: share of C's mean diagonal entry that is added to its diagonal, above 0.
        decay: of the running C, in [0, 1).
        rest_rate: AdamW's rate for what is no matrix over the matrices', at least 0.
    """

    sends = frozenset({GRAM})

    def __init__(self, *, damping: float = 0.1, decay: float = 0.95, rest_rate: float = REST_RATE) -> None:
        super().__init__(damping=damping, decay=decay)
        require_number("rest_rate", rest_rate, 0, 1e6)
        self._rest_rate = rest_rate

    def optimizer(self, local: LocalRound, settings: Optimisation) -> "FoofOptimizer":
        """Return FOOF."""
        return FoofOptimizer(local.cohort.parameters, settings, self.see(local), rest_rate=self._rest_rate)

    def end(self, local: LocalRound) -> None:
        """Send C~ of the last step, where it is asked for."""
        if GRAM in local.asked:
            local.extras[GRAM] = self.moments.all_damped()


class FoofOptimizer(MatrixOptimizer):
    """FOOF on matrices.

    Args:
        parameters: name -> (C, ...).
        settings: clipping, weight decay, AdamW's moments.
        moments: the learners' second moments of inputs, kept up by whoever owns them.
        rest_rate: AdamW's rate over the matrices'.
    """

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        settings: Optimisation,
        moments: InputMoments,
        *,
        rest_rate: float = REST_RATE,
    ) -> None:
        super().__init__(parameters, settings, bias="column", rest_factor=rest_rate)
        self._moments = moments

    def _direction(self, name: str, gradient_AOI: Tensor, kept: dict[str, Tensor], learners_A: Tensor) -> Tensor:
        del kept
        return divided(gradient_AOI, self._moments.damped(name, learners_A, bias=self._has_bias(name)))

    def _has_bias(self, name: str) -> bool:
        return any(matrix.weight == name and matrix.bias is not None for matrix in self._matrices)
