"""SOAP: AdamW in the eigenbases of the learner's own running second moments of its gradients.

Per weight matrix with its bias as one more column, G (O, I):
    L <- b L + (1 - b) G G^T  (O, O)        R <- b R + (1 - b) G^T G  (I, I)    in a first step they are G G^T, G^T G
    Q_L, Q_R = eigenvectors of L and R, at first; every `refresh` steps  Q <- QR(L Q), QR(R Q): one power iteration
    G' = Q_L^T G Q_R
    M <- b_1 M + (1 - b_1) G,   V <- b_2 V + (1 - b_2) G' * G'
    direction = Q_L [ M' / (1 - b_1^t) / (sqrt(V / (1 - b_2^t)) + epsilon) ] Q_R^T,      M' = Q_L^T M Q_R
with b = b_2. `sides = "inputs"` leaves Q_L = I, `sides = "outputs"` Q_R = I.
Implements docs/methods.md, SOAP (Vyas et al. 2024, arXiv 2409.11321, Algorithm 3); but the basis of a first step is
that step's own gradient's, so that none is skipped.
Shapes: C learners, A of them active, O outputs, I inputs (with the bias column).
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from fedcmp.aggregation.options import require_choice, require_number, require_whole
from fedcmp.client.local_round import LocalRound
from fedcmp.client.optimizer import Optimisation, beside
from fedcmp.client.steps.base import Step
from fedcmp.client.steps.matrix_optimizer import MatrixOptimizer
from fedcmp.client.steps.registry import register_step

SIDES = ("both", "inputs", "outputs")
RATE_FACTOR = 3.0  # of its rate over AdamW's
_TIE = 1e-9  # of the mean entry of a diagonal
OUTPUTS, INPUTS, _OUTPUT_BASIS, _INPUT_BASIS = "output_gram", "input_gram", "output_basis", "input_basis"


@register_step(
    "soap",
    summary="AdamW in eigenbases of the client's own gradients",
    paper="Vyas et al. 2024, arXiv 2409.11321",
    rate_factor=RATE_FACTOR,
)
class Soap(Step):
    """SOAP.

    Args:
        beta_1: b_1 in [0, 1): of the gradient.
        beta_2: b_2 in [0, 1): of the second moments.
        refresh: steps from one refreshing of the bases to the next, at least 1.
        sides: "both" sides of a matrix turned, or "inputs" or "outputs" only.
    """

    def __init__(self, *, beta_1: float = 0.95, beta_2: float = 0.95, refresh: int = 10, sides: str = "both") -> None:
        require_number("beta_1", beta_1, 0, 0.9999)
        require_number("beta_2", beta_2, 0, 0.9999)
        require_whole("refresh", refresh)
        require_choice("sides", sides, SIDES)
        self._beta_1, self._beta_2, self._refresh, self._sides = beta_1, beta_2, refresh, sides

    def optimizer(self, local: LocalRound, settings: Optimisation) -> "SoapOptimizer":
        """Return SOAP."""
        parameters = local.cohort.parameters
        return SoapOptimizer(parameters, self._settings(settings), refresh=self._refresh, sides=self._sides)

    def _settings(self, settings: Optimisation) -> Optimisation:
        return replace(settings, beta_1=self._beta_1, beta_2=self._beta_2)


class SoapOptimizer(MatrixOptimizer):
    """SOAP on matrices.

    Args:
        parameters: name -> (C, ...).
        settings: betas, epsilon and so on.
        refresh: steps between refreshes.
        sides: which sides are turned.
    """

    def __init__(
        self, parameters: Mapping[str, Tensor], settings: Optimisation, *, refresh: int, sides: str = "both"
    ) -> None:
        super().__init__(parameters, settings, bias="column")
        self._refresh = refresh
        shapes = self._shapes()
        self._add_table("exp_avg", shapes)
        self._add_table("exp_avg_sq", shapes)
        self._turned: list[tuple[str, str]] = []
        if sides != "inputs":
            self._turned.append((OUTPUTS, _OUTPUT_BASIS))
        if sides != "outputs":
            self._turned.append((INPUTS, _INPUT_BASIS))
        for gram, basis in self._turned:
            squares = {name: (shape[gram == INPUTS],) * 2 for name, shape in shapes.items()}
            self._add_table(gram, squares)
            self._add_table(basis, squares)

    def warm_start(self, grams: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Begin with given second moments and their eigenbases, the same for all learners.

        Args:
            grams: OUTPUTS or INPUTS -> weight's name -> square matrix.
        """
        for gram, basis in self._turned:
            for name, sent in grams.get(gram, {}).items():
                table = self._tables[gram][name]
                table.copy_(sent.to(table))
                self._tables[basis][name].copy_(_eigenvectors(sent.to(table).double()))

    def _direction(self, name: str, gradient_AOI: Tensor, kept: dict[str, Tensor], learners_A: Tensor) -> Tensor:
        del name
        settings, steps_A = self._settings, self._steps_C[learners_A].double()
        grams = {gram: _square(gradient_AOI, gram) for gram, _ in self._turned}
        for gram, basis in self._turned:
            fresh_A = ~kept[basis].flatten(1).any(1)
            if bool(fresh_A.any()):
                kept[gram][fresh_A] = grams[gram][fresh_A]
                kept[basis][fresh_A] = _eigenvectors(_square(gradient_AOI[fresh_A].double(), gram)).to(kept[basis])
        turned_AOI = self._turn(gradient_AOI, kept)
        kept["exp_avg"].lerp_(gradient_AOI, 1 - settings.beta_1)
        kept["exp_avg_sq"].mul_(settings.beta_2).addcmul_(turned_AOI, turned_AOI, value=1 - settings.beta_2)
        mean_AOI = self._turn(kept["exp_avg"], kept) / beside(1 - settings.beta_1**steps_A, turned_AOI)
        width_AOI = (kept["exp_avg_sq"] / beside(1 - settings.beta_2**steps_A, turned_AOI)).sqrt() + settings.epsilon
        direction_AOI = self._turn_back(mean_AOI / width_AOI, kept)
        due_A = (steps_A % self._refresh == 0).to(gradient_AOI.device)
        for gram, basis in self._turned:
            kept[gram].lerp_(grams[gram], 1 - settings.beta_2)
            if bool(due_A.any()):
                kept[basis][due_A] = torch.linalg.qr(kept[gram][due_A] @ kept[basis][due_A])[0]
        return direction_AOI

    def _turn(self, matrix_AOI: Tensor, kept: Mapping[str, Tensor]) -> Tensor:
        """Return Q_L^T X Q_R."""
        if _OUTPUT_BASIS in kept:
            matrix_AOI = kept[_OUTPUT_BASIS].mT @ matrix_AOI
        return matrix_AOI @ kept[_INPUT_BASIS] if _INPUT_BASIS in kept else matrix_AOI

    def _turn_back(self, matrix_AOI: Tensor, kept: Mapping[str, Tensor]) -> Tensor:
        """Return Q_L X Q_R^T."""
        if _OUTPUT_BASIS in kept:
            matrix_AOI = kept[_OUTPUT_BASIS] @ matrix_AOI
        return matrix_AOI @ kept[_INPUT_BASIS].mT if _INPUT_BASIS in kept else matrix_AOI


def _square(gradient_AOI: Tensor, gram: str) -> Tensor:
    """Return G G^T for OUTPUTS, G^T G for INPUTS."""
    return gradient_AOI @ gradient_AOI.mT if gram == OUTPUTS else gradient_AOI.mT @ gradient_AOI


def _eigenvectors(grams: Tensor) -> Tensor:
    """Return (..., N, N) orthonormal eigenvectors of symmetric float64 matrices, the strongest first.

    Where eigenvalues are equal, as those that are 0 of one gradient's, a little on the diagonal says which vectors are
    taken: else rounding would, and several processes would not end where one does.
    """
    finite = grams.nan_to_num(0.0, 0.0, 0.0)  # a learner that has diverged is refused by the server, in words
    order = torch.linspace(1, 0, grams.shape[-1], dtype=grams.dtype, device=grams.device)
    mean = finite.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None]
    vectors: Tensor = torch.linalg.eigh(finite + torch.diag_embed(_TIE * mean * order))[1]
    return vectors.flip(-1)
