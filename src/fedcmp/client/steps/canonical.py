"""Canonical steps: AdamW in a basis of what the layers are fed, by default the one that all clients share.

Per weight matrix with its bias as one more column, X (O, I), and the basis V (I, I), orthogonal:
    R = G V                    the gradient in canonical coordinates
    m, v, step                 AdamW's, entry by entry of R
    X <- X - rate * rho * step V^T
with rho the matrix's stretch (aggregation/input_space.py), by which a step in the basis moves the layer's outputs as
far as AdamW's own does at the same rate.
V and rho by the option `basis`:
    shared      what the server broadcasts, made of all clients' C_k after an opening round; before the first, V = I
    own         eigenvectors of the learner's own C_k of its last round; before its first, measured where that begins
    random      one rotation, drawn from the seed, for all learners and rounds; rho from the learner's own C_k
    identity    V = I, rho = 1: AdamW's own arithmetic
C_k = mean over visual tokens of x x^T  (I, I), x what the layer is fed, with a one behind it for the bias. It needs no
caption and no LLM.  All but `shared` are controls for experiments; learners without a server step in their own.
AdamW in a rotated basis is SOAP's step (Vyas et al. 2024, arXiv 2409.11321, one side only); here the basis is common to
all clients, so that their second moments can be compared direction by direction.
"""

import zlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from fedcmp.aggregation.labels import BASIS, SECOND_MOMENT, STRETCH
from fedcmp.aggregation.options import require_choice, require_flag, require_number
from fedcmp.aggregation.service import InputBasis, Service
from fedcmp.client.cohort import JointBatch, Stacked
from fedcmp.client.local_round import LocalRound
from fedcmp.client.optimizer import Optimisation, StackedAdamW, StackedOptimizer
from fedcmp.client.steps.base import Step
from fedcmp.client.steps.meters import InputMeter
from fedcmp.client.steps.registry import register_step
from fedcmp.client.steps.stacked_matrices import join, matrices_of, write

BASES = ("shared", "own", "random", "identity")
_OWN_GRAM = "own_input_gram"  # what a learner keeps of its last round


@register_step(
    "canonical",
    summary="AdamW in a basis that all clients share",
    paper="this project; SOAP, Vyas et al. 2024, arXiv 2409.11321",
)
class Canonical(Step):
    """Steps in the canonical space.

    Args:
        stretch: whether steps are rho times as long, so that a rate means what it means for AdamW.
        basis: "shared", "own", "random" or "identity", see above.
        seed: of the random rotation; None: the run's.
    """

    def __init__(self, *, stretch: bool = True, basis: str = "shared", seed: int | None = None) -> None:
        require_flag("stretch", stretch)
        require_choice("basis", basis, BASES)
        if seed is not None:
            require_number("seed", seed, 0, 2**63 - 1)
        self._stretch, self._kind, self._seed = stretch, basis, int(seed or 0)
        if basis == "shared":  # coordinates that the server knows too
            self.sends = frozenset({SECOND_MOMENT})
        self._optimizer: CanonicalAdamW | None = None
        self._meter: InputMeter | None = None

    def services(self) -> Sequence[Service]:
        """Return what makes the shared basis."""
        return [InputBasis()] if self._kind == "shared" else []

    def optimizer(self, local: LocalRound, settings: Optimisation) -> StackedOptimizer:
        """Return AdamW in the basis; plain AdamW's arithmetic where there is none."""
        basis: Mapping[str, Tensor] = {}
        stretches: Mapping[str, Any] = {}
        if self._kind == "shared":
            basis = local.broadcast.get(BASIS, {})
            stretches = {name: float(rho) for name, rho in local.broadcast.get(STRETCH, {}).items()}
        elif self._kind != "identity":
            self._meter = InputMeter(len(local.cohort))
            basis, stretches = self._bases(_known_grams(local))
        self._optimizer = CanonicalAdamW(local.cohort.parameters, settings, basis, stretches if self._stretch else {})
        return self._optimizer

    def _bases(self, grams: Stacked) -> tuple[Stacked, dict[str, Tensor]]:
        """Return V, (C, I, I) or (I, I) for all, and rho (C,) by weight's name, from the learners' own C_k."""
        bases, stretches = {}, {}
        for name, gram_CII in grams.items():
            space_CII = gram_CII.double()
            if self._kind == "random":
                basis = random_rotation(space_CII.shape[-1], seed=self._seed, name=name).to(space_CII)
            else:
                basis = torch.linalg.eigh(space_CII)[1].flip(-1).contiguous()
            along_CI = (basis.mT @ space_CII @ basis).diagonal(dim1=-2, dim2=-1).clamp(min=0).sqrt()
            across_CI = space_CII.diagonal(dim1=-2, dim2=-1).clamp(min=0).sqrt()
            rho_C = across_CI.sum(-1) / along_CI.sum(-1)
            bases[name] = basis.to(gram_CII)
            stretches[name] = torch.where(rho_C.isfinite(), rho_C, 1.0).cpu()
        return bases, stretches

    def observe(self, local: LocalRound, batch: JointBatch) -> None:
        """Sum what the layers are fed, where the learners' own C_k are needed."""
        if self._meter is not None:
            self._meter.observe(local, batch)

    def part_state(self) -> Stacked:
        """Sums of what the layers were fed."""
        return {} if self._meter is None else self._meter.part_state()

    def load_part_state(self, saved: dict[str, Tensor]) -> None:
        """Take the sums up."""
        if self._meter is not None:
            self._meter.load_part_state(saved)

    def end(self, local: LocalRound) -> None:
        """Send second moments; keep C_k."""
        assert self._optimizer is not None
        if SECOND_MOMENT in local.asked & self.sends:
            local.extras[SECOND_MOMENT] = self._optimizer.canonical_second_moments()
        if self._meter is not None:
            local.memory[_OWN_GRAM] = self._meter.measured(local)


class CanonicalAdamW(StackedAdamW):
    """AdamW on canonical coordinates; the projectors' own tensors are written after every step.

    Args:
        parameters: name -> (C, ...).
        settings: the same for all learners.
        basis: weight's name -> V (I, I), or (C, I, I) one for each learner; a matrix without one stays in its own
            coordinates.
        stretches: weight's name -> rho, a factor on the matrix's rate, or (C,) one for each learner; 1 where missing.

    Raises:
        ValueError: a basis of another size than its matrix.
    """

    keeps_second_moment = False  # what it keeps is in other coordinates than the tensors'

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        settings: Optimisation,
        basis: Mapping[str, Tensor],
        stretches: Mapping[str, float | Tensor] = MappingProxyType({}),
    ) -> None:
        self._own = parameters
        self._matrices = matrices_of(parameters, bias="column")
        self._basis = {}
        in_matrices = {name for matrix in self._matrices for name in (matrix.weight, matrix.bias)}
        coordinates = {name: tensor.detach() for name, tensor in parameters.items() if name not in in_matrices}
        for matrix in self._matrices:
            joined_COI = join(matrix, parameters)
            inputs = joined_COI.shape[-1]
            if matrix.weight in basis:
                rotation = basis[matrix.weight].to(joined_COI)
                if rotation.shape[-2:] != (inputs, inputs):
                    given = tuple(rotation.shape)
                    raise ValueError(f"canonical basis of {matrix.weight} is {given}; it must be {(inputs, inputs)}")
                self._basis[matrix.weight] = rotation
                joined_COI = joined_COI @ rotation
            coordinates[matrix.weight] = joined_COI
        super().__init__(coordinates, settings, stretches)

    def load(self, learner: int, saved: Mapping[str, Tensor]) -> None:
        """Take up one learner's state; moments in another basis of its own are carried over into this one.

        With T = V_then^T V_now:  m <- m T,  and v <- v (T o T), as if coordinates did not covary.
        """
        super().load(learner, saved)
        for name, basis in self._basis.items():
            if (then_II := saved.get(f"basis.{name}")) is not None and basis.dim() == 3:
                turned_II = then_II.to(basis).T @ basis[learner]
                self._first[name][learner] = self._first[name][learner] @ turned_II
                self._second[name][learner] = self._second[name][learner] @ turned_II.square()

    def saved(self, learner: int) -> dict[str, Tensor]:
        """One learner's state, with its basis where that is its own."""
        own = {f"basis.{name}": basis[learner].cpu() for name, basis in self._basis.items() if basis.dim() == 3}
        return super().saved(learner) | own

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
            gradient_AOI = join(matrix, gradients)
            if matrix.weight in self._basis:
                basis = self._basis[matrix.weight]
                gradient_AOI = gradient_AOI @ (basis if basis.dim() == 2 else basis[learners_A])
            rotated[matrix.weight] = gradient_AOI
        super()._apply(rotated, learners_A, rates_A)
        for matrix in self._matrices:
            joined_COI = self._parameters[matrix.weight]
            if matrix.weight in self._basis:
                joined_COI = joined_COI @ self._basis[matrix.weight].mT
            write(matrix, joined_COI[learners_A], self._own, learners_A)


def random_rotation(size: int, *, seed: int, name: str) -> Tensor:
    """Return an orthogonal matrix (size, size), float64, uniform over all of them (Haar); the same for a seed and name.

    Source: Mezzadri 2007, "How to generate random matrices from the classical compact groups", section 5.
    """
    generator = torch.Generator().manual_seed(zlib.crc32(f"{seed} {name}".encode()))  # it knows 32 bits
    factor, triangle = torch.linalg.qr(torch.randn(size, size, dtype=torch.float64, generator=generator))
    rotation: Tensor = factor * triangle.diagonal().sign()
    return rotation


def _known_grams(local: LocalRound) -> Stacked:
    """Return C_k (C, I, I) by weight's name: of each learner's last round, in its first of this round's beginning."""
    kept = local.memory.get(_OWN_GRAM)
    if kept is None:
        return local.grams_at_start()
    remembers_C = _nonzero(kept)
    if bool(remembers_C.all()):
        return kept
    measured = local.grams_at_start()
    remembers = {name: remembers_C.to(gram.device).view(-1, 1, 1) for name, gram in measured.items()}
    return {name: torch.where(remembers[name], kept[name].to(gram), gram) for name, gram in measured.items()}


def _nonzero(grams: Stacked) -> Tensor:
    """Return (C,) whether a learner has kept any: those without have zeros."""
    return torch.stack([gram.flatten(1).any(1).cpu() for gram in grams.values()]).any(0)
