"""What a server may read of any client, however it steps: measured alongside its steps.

    input_gram               C_k, the mean over visual tokens of x x^T, x what a layer is fed and a one    InputMeter
    canonical_second_moment  v_k, the mean of squares of the gradients in the broadcast basis              MomentMeter
    path_length              the sum of the learning rates of the steps                                    PathMeter
and AdamW's plain second moment, for rules that weigh each parameter, of steps that keep none.
Shapes: C learners, A of them active, O outputs, I inputs (with the bias column).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from fedcmp.aggregation.labels import BASIS, GRAM, PATH, SECOND_MOMENT
from fedcmp.client.cohort import JointBatch, Stacked
from fedcmp.client.local_round import LocalRound
from fedcmp.client.optimizer import StackedOptimizer, beside
from fedcmp.client.steps.stacked_matrices import join, matrices_of


class Meter(ABC):
    """Base of the meters; one lives for a round."""

    def observe(self, local: LocalRound, batch: JointBatch) -> None:  # noqa: B027  # some watch steps instead
        """See Step.observe."""

    @abstractmethod
    def part_state(self) -> Stacked:
        """See Step.part_state."""

    @abstractmethod
    def load_part_state(self, saved: Mapping[str, Tensor]) -> None:
        """Take up what `part_state` returned."""

    @abstractmethod
    def measured(self, local: LocalRound) -> Stacked:
        """Return what came of it, name -> (C, ...)."""


class InputMeter(Meter):
    """C_k of every layer.

    Args:
        count: C.
    """

    def __init__(self, count: int) -> None:
        self._grams: Stacked = {}
        self._tokens_C = torch.zeros(count)

    def observe(self, local: LocalRound, batch: JointBatch) -> None:
        """Sum what the layers are fed."""
        grams, tokens_A = local.input_grams(batch)
        for name, gram_AII in grams.items():
            if name not in self._grams:
                self._grams[name] = gram_AII.new_zeros(len(local.cohort), *gram_AII.shape[1:])
            self._grams[name][batch.learners_A] += gram_AII
        self._tokens_C[batch.learners_A] += tokens_A.cpu()

    def part_state(self) -> Stacked:
        """Sums of what the layers were fed."""
        return {f"gram.{name}": gram for name, gram in self._grams.items()} | {"tokens": self._tokens_C}

    def load_part_state(self, saved: Mapping[str, Tensor]) -> None:
        """Take the sums up."""
        self._tokens_C = saved["tokens"].cpu()
        self._grams = {name.removeprefix("gram."): own for name, own in saved.items() if name != "tokens"}

    def measured(self, local: LocalRound) -> Stacked:
        """Return weight's name -> (C, I, I), over all ranks' samples."""
        tokens_C, *grams = local.group.sums([self._tokens_C, *self._grams.values()])
        named = zip(self._grams, grams, strict=True)
        return {name: gram / tokens_C.view(-1, 1, 1).to(gram) for name, gram in named}


class MomentMeter(Meter):
    """AdamW's second moment of the gradients: v <- b v + (1 - b) g^2, bias-corrected at the end.

    Args:
        optimizer: whose steps are watched.
        parameters: what it moves, name -> (C, ...).
        beta: b.
        bases: weight's name -> V (I, I): squares are of the matrices' coordinates in it, bias column included; None:
            of every tensor's own entries.
    """

    def __init__(
        self,
        optimizer: StackedOptimizer,
        parameters: Mapping[str, Tensor],
        *,
        beta: float,
        bases: Mapping[str, Tensor] | None,
    ) -> None:
        self._beta, self._bases = beta, bases
        self._matrices = [] if bases is None else matrices_of(parameters, bias="column")
        zeros = dict(parameters) if bases is None else {m.weight: join(m, parameters) for m in self._matrices}
        self._second = {name: torch.zeros_like(tensor, requires_grad=False) for name, tensor in zeros.items()}
        self._steps_C = torch.zeros(len(next(iter(parameters.values()))), dtype=torch.float64)
        optimizer.watchers.append(self._watch)

    def _watch(self, gradients: Mapping[str, Tensor], learners_A: Tensor, rates_A: Tensor) -> None:
        del rates_A
        self._steps_C[learners_A] += 1
        for name, gradient in self._seen(gradients):
            second = self._second[name]
            second[learners_A] = second[learners_A] * self._beta + (1 - self._beta) * gradient.square()

    def _seen(self, gradients: Mapping[str, Tensor]) -> Iterable[tuple[str, Tensor]]:
        if self._bases is None:
            yield from gradients.items()
            return
        for matrix in self._matrices:
            gradient_AOI, basis_II = join(matrix, gradients), self._bases.get(matrix.weight)
            yield matrix.weight, gradient_AOI if basis_II is None else gradient_AOI @ basis_II.to(gradient_AOI)

    def part_state(self) -> Stacked:
        """Moments and counts of steps."""
        return {f"second.{name}": tensor for name, tensor in self._second.items()} | {"steps": self._steps_C}

    def load_part_state(self, saved: Mapping[str, Tensor]) -> None:
        """Take them up."""
        self._steps_C = saved["steps"].cpu()
        self._second = {name: saved[f"second.{name}"] for name in self._second}

    def measured(self, local: LocalRound) -> Stacked:  # noqa: ARG002  # gradients arrive summed over the ranks
        """Return `moments`."""
        return self.moments()

    def moments(self) -> Stacked:
        """Return name -> (C, ...), zeros before any step."""
        correction_C = 1 - self._beta ** self._steps_C.clamp(min=1)
        return {name: tensor / beside(correction_C, tensor) for name, tensor in self._second.items()}


class PathMeter(Meter):
    """How far a learner would have come with steps of length 1: the sum of its rates.

    Args:
        optimizer: whose steps are watched.
        count: C.
    """

    def __init__(self, optimizer: StackedOptimizer, count: int) -> None:
        self._sum_C = torch.zeros(count, dtype=torch.float64)
        optimizer.watchers.append(self._watch)

    def _watch(self, gradients: Mapping[str, Tensor], learners_A: Tensor, rates_A: Tensor) -> None:
        del gradients
        self._sum_C[learners_A] += rates_A.double()

    def part_state(self) -> Stacked:
        """The sums so far."""
        return {"sum": self._sum_C}

    def load_part_state(self, saved: Mapping[str, Tensor]) -> None:
        """Take them up."""
        self._sum_C = saved["sum"].cpu()

    def measured(self, local: LocalRound) -> Stacked:  # noqa: ARG002
        """Return {"rates": (C,)}."""
        return {"rates": self._sum_C.float()}


class Meters:
    """The meters that a round needs.

    Args:
        local: the round; `local.asked` says what the server reads.
        optimizer: whose steps are watched.
        own: labels that the step sends itself.
        beta: of second moments.
        with_second_moment: whether plain second moments are wanted and the optimiser keeps none.
    """

    def __init__(
        self,
        local: LocalRound,
        optimizer: StackedOptimizer,
        *,
        own: frozenset[str],
        beta: float,
        with_second_moment: bool,
    ) -> None:
        count, wanted, parameters = len(local.cohort), local.asked - own, local.cohort.parameters
        self._asked: dict[str, Meter] = {}
        if GRAM in wanted:
            self._asked[GRAM] = InputMeter(count)
        if SECOND_MOMENT in wanted:
            bases = local.broadcast.get(BASIS, {})
            self._asked[SECOND_MOMENT] = MomentMeter(optimizer, parameters, beta=beta, bases=bases)
        if PATH in wanted:
            self._asked[PATH] = PathMeter(optimizer, count)
        self._plain: Meter | None = None
        if with_second_moment:
            self._plain = MomentMeter(optimizer, parameters, beta=beta, bases=None)

    def observe(self, local: LocalRound, batch: JointBatch) -> None:
        """See Step.observe."""
        for meter in self._asked.values():
            meter.observe(local, batch)

    def part_state(self) -> Stacked:
        """See Step.part_state."""
        return {f"{label}/{name}": t for label, meter in self._all().items() for name, t in meter.part_state().items()}

    def load_part_state(self, saved: Mapping[str, Tensor]) -> None:
        """Take up what `part_state` returned."""
        for label, meter in self._all().items():
            start = f"{label}/"
            own = {name.removeprefix(start): t for name, t in saved.items() if name.startswith(start)}
            meter.load_part_state(own)

    def end(self, local: LocalRound) -> None:
        """Fill `local.extras`."""
        for label, meter in self._asked.items():
            local.extras[label] = meter.measured(local)

    def second_moments(self, local: LocalRound) -> Stacked | None:
        """Return plain second moments, name -> (C, ...), where they were wanted."""
        return None if self._plain is None else self._plain.measured(local)

    def _all(self) -> dict[str, Meter]:
        return self._asked | ({} if self._plain is None else {"plain": self._plain})
