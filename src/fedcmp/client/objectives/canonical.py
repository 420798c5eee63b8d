"""Canonical steps: AdamW in the basis that all clients share, and the sums from which the server makes the next one.

Per weight matrix with its bias as one more column, X (O, I), and the broadcast basis V (I, I), orthogonal:
    R = G V                    the gradient in canonical coordinates
    m, v, step                 AdamW's, entry by entry of R
    X <- X - rate * rho * step V^T
with rho the matrix's broadcast stretch (aggregation/shared_basis.py), by which a step in the basis moves the layer's
outputs as far as AdamW's own does at the same rate.
Sent beside the projector:  v in canonical coordinates, and  C = mean over visual tokens of x x^T  (I, I), x what the
layer is fed, with a one behind it for the bias. C needs no caption and no LLM, so an opening round, which only
measures, gives the first basis; without one, round 1 is plain AdamW's.
AdamW in a rotated basis is SOAP's step (Vyas et al. 2024, arXiv 2409.11321, one side only); here the basis is common to
all clients, so that their second moments can be compared direction by direction.
"""

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from fedcmp.aggregation.matrices import Matrix, find_matrices
from fedcmp.aggregation.options import require_flag
from fedcmp.client.cohort import JointBatch, Stacked
from fedcmp.client.objectives.base import LocalRound, Objective
from fedcmp.client.objectives.registry import register_objective
from fedcmp.client.optimizer import Optimisation, StackedAdamW

BASIS, STRETCH = "canonical_basis", "canonical_stretch"
GRAM, SECOND_MOMENT = "input_gram", "canonical_second_moment"


@register_objective(
    "canonical",
    summary="AdamW in a basis that all clients share",
    paper="this project; SOAP, Vyas et al. 2024, arXiv 2409.11321",
)
class Canonical(Objective):
    """Steps in the canonical space.

    Args:
        stretch: whether steps are rho times as long, so that a rate means what it means for AdamW.
    """

    def __init__(self, *, stretch: bool = True) -> None:
        require_flag("stretch", stretch)
        self._stretch = stretch
        self._optimizer: CanonicalAdamW | None = None
        self._grams: Stacked = {}
        self._tokens_C = torch.zeros(0)

    def optimizer(self, local: LocalRound, settings: Optimisation) -> StackedAdamW:
        """AdamW in the broadcast basis; plain AdamW's arithmetic where none was sent."""
        basis = local.broadcast.get(BASIS, {})
        stretches = local.broadcast.get(STRETCH, {}) if self._stretch else {}
        self._optimizer = CanonicalAdamW(local.cohort.parameters, settings, basis, stretches)
        self._grams, self._tokens_C = {}, torch.zeros(len(local.cohort))
        return self._optimizer

    def observe(self, local: LocalRound, batch: JointBatch) -> None:
        """Sum what the layers are fed."""
        grams, tokens_A = local.cohort.input_grams(batch)
        for name, gram_AII in grams.items():
            if name not in self._grams:
                self._grams[name] = gram_AII.new_zeros(len(local.cohort), *gram_AII.shape[1:])
            self._grams[name][batch.learners_A] += gram_AII
        self._tokens_C[batch.learners_A] += tokens_A.cpu()

    def part_state(self) -> Stacked:
        """Sums of what the layers were fed."""
        return {f"gram.{name}": gram for name, gram in self._grams.items()} | {"tokens": self._tokens_C}

    def load_part_state(self, saved: Stacked) -> None:
        """Take the sums up."""
        self._tokens_C = saved["tokens"].cpu()
        self._grams = {name.removeprefix("gram."): own for name, own in saved.items() if name != "tokens"}

    def end(self, local: LocalRound) -> None:
        """Send second moments and Gram matrices."""
        assert self._optimizer is not None
        local.extras[SECOND_MOMENT] = self._optimizer.canonical_second_moments()
        tokens_C, *grams = local.group.sums([self._tokens_C, *self._grams.values()])
        named = zip(self._grams, grams, strict=True)
        local.extras[GRAM] = {name: gram / tokens_C.view(-1, 1, 1).to(gram) for name, gram in named}


class CanonicalAdamW(StackedAdamW):
    """AdamW on canonical coordinates; the projectors' own tensors are written after every step.

    Args:
        parameters: name -> (C, ...).
        settings: the same for all learners.
        basis: weight's name -> V (I, I); a matrix without one stays in its own coordinates.
        stretches: weight's name -> rho (), a factor on the matrix's rate; 1 where it is missing.

    Raises:
        ValueError: a basis of another size than its matrix.
    """

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        settings: Optimisation,
        basis: Mapping[str, Tensor],
        stretches: Mapping[str, Tensor] = MappingProxyType({}),
    ) -> None:
        self._own = parameters
        one = {name: tensor[0] for name, tensor in parameters.items()}
        self._matrices = find_matrices(one, bias="column")
        self._basis = {}
        in_matrices = {name for matrix in self._matrices for name in (matrix.weight, matrix.bias)}
        coordinates = {name: tensor.detach() for name, tensor in parameters.items() if name not in in_matrices}
        for matrix in self._matrices:
            joined_COI = _join(matrix, parameters)
            inputs = joined_COI.shape[-1]
            if matrix.weight in basis:
                rotation_II = basis[matrix.weight].to(joined_COI)
                if rotation_II.shape != (inputs, inputs):
                    given = tuple(rotation_II.shape)
                    raise ValueError(f"canonical basis of {matrix.weight} is {given}; it must be {(inputs, inputs)}")
                self._basis[matrix.weight] = rotation_II
                joined_COI = joined_COI @ rotation_II
            coordinates[matrix.weight] = joined_COI
        super().__init__(coordinates, settings, {name: float(rho) for name, rho in stretches.items()})

    def part_state(self) -> dict[str, Tensor]:
        """As AdamW's, with the coordinates: turned there and back again they would be rounded otherwise."""
        coordinates = {f"coordinates.{name}": tensor.detach() for name, tensor in self._parameters.items()}
        return super().part_state() | coordinates

    def load_part_state(self, saved: Mapping[str, Tensor]) -> None:
        """Take up what `part_state` returned."""
        super().load_part_state(saved)
        for name, tensor in self._parameters.items():
            tensor.data.copy_(saved[f"coordinates.{name}"])

    def canonical_second_moments(self) -> Stacked:
        """Weight's name -> (C, O, I) bias-corrected second moments in canonical coordinates; zeros before any step."""
        correction_C = 1 - self._settings.beta_2 ** self._steps_C.double().clamp(min=1)
        names = [matrix.weight for matrix in self._matrices]
        return {name: self._second[name] / correction_C.view(-1, 1, 1).to(self._second[name]) for name in names}

    def _apply(self, gradients: Mapping[str, Tensor], learners_A: Tensor, rates_A: Tensor) -> None:
        rotated = dict(gradients)
        for matrix in self._matrices:
            gradient_AOI = _join(matrix, gradients)
            if matrix.weight in self._basis:
                gradient_AOI = gradient_AOI @ self._basis[matrix.weight]
            rotated[matrix.weight] = gradient_AOI
        super()._apply(rotated, learners_A, rates_A)
        for matrix in self._matrices:
            joined_COI = self._parameters[matrix.weight]
            if matrix.weight in self._basis:
                joined_COI = joined_COI @ self._basis[matrix.weight].T
            self._write(matrix, joined_COI, learners_A)

    def _write(self, matrix: Matrix, joined_COI: Tensor, learners_A: Tensor) -> None:
        """Into the projectors of those who stepped; the others keep theirs bit for bit."""
        if matrix.bias is None:
            self._own[matrix.weight].data[learners_A] = joined_COI[learners_A]
            return
        self._own[matrix.weight].data[learners_A] = joined_COI[learners_A, :, :-1]
        self._own[matrix.bias].data[learners_A] = joined_COI[learners_A, :, -1]


def _join(matrix: Matrix, tensors: Mapping[str, Tensor]) -> Tensor:
    """(C, O, I) matrices with their bias as the last column."""
    weight_COI = tensors[matrix.weight].detach()
    if matrix.bias is None:
        return weight_COI
    return torch.cat([weight_COI, tensors[matrix.bias].detach()[..., None]], dim=-1)
