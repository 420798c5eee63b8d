"""Muon: momentum, orthogonalised. Local steps of MuLoCo and of plain averaging.

Per weight matrix, its bias apart, G (O, I):
    M <- mu M + G
    direction = sqrt(O / I) polar(M)              polar(P D Q^T) = P Q^T, by Newton-Schulz iterations
        X_0 = M / ||M||,   X <- a X + (b A + c A A) X,   A = X X^T,   (a, b, c) = (3.4445, -4.7750, 2.0315)
Other tensors: AdamW at `rest_rate` times the rate.
Implements docs/methods.md, Muon (Jordan et al. 2024) as in MuLoCo (Thérien et al. 2025, arXiv 2505.23725).
Shapes: C learners, A of them active, O outputs, I inputs.
"""

from collections.abc import Mapping

from torch import Tensor

from fedcmp.aggregation.options import require_number
from fedcmp.client.local_round import LocalRound
from fedcmp.client.optimizer import Optimisation
from fedcmp.client.steps.base import Step
from fedcmp.client.steps.matrix_optimizer import MatrixOptimizer
from fedcmp.client.steps.registry import register_step
from fedcmp.client.steps.soap import require_whole

MOMENTUM = "momentum"
RATE_FACTOR, REST_RATE = 20.0, 0.05  # of Muon's rate over AdamW's, and back for what is no matrix
_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
_SMALLEST = 1e-7


@register_step(
    "muon",
    summary="orthogonalised momentum",
    paper="Jordan et al. 2024; MuLoCo, Thérien et al. 2025, arXiv 2505.23725",
    rate_factor=RATE_FACTOR,
)
class Muon(Step):
    """Muon.

    Args:
        momentum: mu in [0, 1).
        iterations: Newton-Schulz iterations, at least 1.
        rest_rate: AdamW's rate for what is no matrix over the matrices', at least 0.
    """

    def __init__(self, *, momentum: float = 0.95, iterations: int = 5, rest_rate: float = REST_RATE) -> None:
        require_number("momentum", momentum, 0, 0.9999)
        require_whole("iterations", iterations)
        require_number("rest_rate", rest_rate, 0, 1e6)
        self._momentum, self._iterations, self._rest_rate = momentum, iterations, rest_rate

    def optimizer(self, local: LocalRound, settings: Optimisation) -> "MuonOptimizer":
        """Return Muon."""
        return MuonOptimizer(
            local.cohort.parameters,
            settings,
            momentum=self._momentum,
            iterations=self._iterations,
            rest_rate=self._rest_rate,
        )


class MuonOptimizer(MatrixOptimizer):
    """Muon on matrices, AdamW on biases and whatever else there is.

    Args:
        parameters: name -> (C, ...).
        settings: clipping, weight decay, AdamW's moments.
        momentum: mu, of M <- mu M + gain G.
        gain: of the gradient.
        iterations: of Newton and Schulz.
        rest_rate: AdamW's rate over the matrices'.
        scaled: whether a matrix's rate is multiplied by sqrt(O / I).
    """

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        settings: Optimisation,
        *,
        momentum: float,
        gain: float = 1.0,
        iterations: int = 5,
        rest_rate: float = REST_RATE,
        scaled: bool = True,
    ) -> None:
        super().__init__(parameters, settings, bias="average", rest_factor=rest_rate)
        self._momentum, self._gain, self._iterations, self._scaled = momentum, gain, iterations, scaled
        self._add_table(MOMENTUM, self._shapes())

    def start_from(self, momentum: Mapping[str, Tensor]) -> None:
        """Begin with given momenta, weight's name -> (O, I) or (C, O, I)."""
        for name, sent in momentum.items():
            self._tables[MOMENTUM][name].copy_(sent.to(self._tables[MOMENTUM][name]))

    def _direction(self, name: str, gradient_AOI: Tensor, kept: dict[str, Tensor], learners_A: Tensor) -> Tensor:
        kept[MOMENTUM].mul_(self._momentum).add_(gradient_AOI, alpha=self._gain)
        return self._orthogonal(self._steered(name, kept[MOMENTUM], learners_A))

    def _steered(self, name: str, momentum_AOI: Tensor, learners_A: Tensor) -> Tensor:
        """Return what is orthogonalised."""
        del name, learners_A
        return momentum_AOI

    def _orthogonal(self, matrix_AOI: Tensor) -> Tensor:
        outputs, inputs = matrix_AOI.shape[-2:]
        scale = (outputs / inputs) ** 0.5 if self._scaled else 1.0
        return scale * newton_schulz(matrix_AOI, iterations=self._iterations)


def newton_schulz(matrix_AOI: Tensor, *, iterations: int) -> Tensor:
    """Return about polar(M) of each matrix: its singular values above about .002 of the norm come to .7 to 1.2.

    Args:
        matrix_AOI: (A, O, I), of any scale; a zero matrix stays zero.
        iterations: at least 1; 5 are usual.

    Source:
        K. Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks": the quintic iteration.
    """
    first, third, fifth = _NEWTON_SCHULZ
    tall = matrix_AOI.shape[-2] > matrix_AOI.shape[-1]
    x: Tensor = matrix_AOI.mT if tall else matrix_AOI
    x = x / x.flatten(1).norm(dim=1).clamp(min=_SMALLEST).view(-1, 1, 1)
    for _ in range(iterations):
        a = x @ x.mT
        x = first * x + (third * a + fifth * a @ a) @ x
    return x.mT if tall else x
