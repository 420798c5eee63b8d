"""Local training: one epoch of each learner's part of its pairs, for one learner or for many on one backbone.

Only the projectors are trained, by AdamW; its state is fresh at each call unless it is handed in (centralized and
local-only learners keep theirs over the whole pass). Shapes: see cohort.py.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedcmp.aggregation import ClientUpdate
from fedcmp.client.cohort import Cohort, JointBatch, Stacked
from fedcmp.client.objectives.base import LocalRound, Objective
from fedcmp.client.optimizer import Optimisation
from fedcmp.client.prefetch import Ahead
from fedcmp.data.prepared import Batch, PreparedPairs
from fedcmp.errors import UserError
from fedcmp.model.vlm import VLM

Tensors = dict[str, Tensor]
Penalty = Callable[[LocalRound, JointBatch, Tensor], Tensor | None]


@dataclass(frozen=True)
class Part:
    """What one learner trains on in one call.

    Attributes:
        batches: positions of the pairs, one array a step; together one epoch over the part.
        rates: learning rate of each step.
        swapped: pair -> the pair whose caption it carries (see scenarios/manifest.py).
    """

    batches: list[NDArray[np.int64]]
    rates: list[float]
    swapped: dict[int, int]


@dataclass(frozen=True)
class Learner:
    """One learner at the beginning of its part.

    Attributes:
        part: what it trains on.
        start: the projector that it starts from.
        optimizer: AdamW's state from an earlier part of the same learner; None: a fresh one.
        memory: what its objective kept since its last part: label -> name -> tensor; None in its first.
    """

    part: Part
    start: Tensors
    optimizer: Tensors | None = None
    memory: dict[str, Tensors] | None = None


@dataclass(frozen=True)
class Trained:
    """What came of it.

    Attributes:
        update: what a client sends to the server.
        losses: caption loss of each step, nats a caption token, without the objective's penalty; none in an opening
            round.
        optimizer: AdamW's state by "moment.tensor", to be handed in again.
        change: norm of the projector's change over the part.
        memory: to be handed in again with the learner's next part.
    """

    update: ClientUpdate
    losses: list[float]
    optimizer: Tensors
    change: float
    memory: dict[str, Tensors] = field(default_factory=dict)


def train_part(
    vlm: VLM,
    pairs: PreparedPairs,
    part: Part,
    start: Tensors,
    settings: Optimisation,
    *,
    optimizer_state: Tensors | None = None,
    with_second_moment: bool = False,
    on_step: Callable[[int, float], None] | None = None,
) -> Trained:
    """Train one projector for one epoch over a part: a cohort of one; see `train_cohort`."""
    learner = Learner(part, start, optimizer_state)
    return train_cohort(vlm, pairs, [learner], settings, with_second_moment=with_second_moment, on_step=on_step)[0]


def train_cohort(
    vlm: VLM,
    pairs: PreparedPairs,
    learners: Sequence[Learner],
    settings: Optimisation,
    *,
    objective: Objective | None = None,
    broadcast: dict[str, Tensors] | None = None,
    with_second_moment: bool = False,
    measure_only: bool = False,
    micro_batch: int | None = None,
    on_step: Callable[[int, float], None] | None = None,
) -> list[Trained]:
    """Train each learner's projector for one epoch over its part, all learners' samples of a step in one batch.

    Args:
        vlm: the backbone; its projector says of what kind theirs are, and is not changed.
        pairs: where the batches come from.
        learners: parts and starts; learners with fewer batches are done earlier.
        settings: AdamW's.
        objective: what is minimised beside the caption loss; None: nothing.
        broadcast: what the server sent beside the projector: label -> name -> tensor.
        with_second_moment: send AdamW's bias-corrected second moment along, for rules that weigh parameters.
        measure_only: take no step and compute no loss; the objective sees every batch (an opening round).
        micro_batch: samples that go through the LLM at once, their gradients summed; None: all of a step. The result
            is the same to rounding; memory is bounded by so many samples, whatever the cohort.
        on_step: called with the step's number and its mean loss; may raise to stop.

    Returns:
        For each learner its update, with the alignment error measured after training over the part's own pairs.

    Raises:
        ValueError: a part is empty.
        UserError: no picture of a part is usable.
    """
    if any(not learner.part.batches for learner in learners):
        raise ValueError("a part without pairs cannot be trained on")
    run = _Round(vlm, pairs, learners, settings, objective or Objective(), broadcast or {}, micro_batch)
    if measure_only:
        run.measure()
    else:
        run.train(on_step)
    return run.results(with_second_moment=with_second_moment)


class _Round:
    """One call of train_cohort."""

    def __init__(
        self,
        vlm: VLM,
        pairs: PreparedPairs,
        learners: Sequence[Learner],
        settings: Optimisation,
        objective: Objective,
        broadcast: dict[str, Tensors],
        micro_batch: int | None,
    ) -> None:
        self._pairs, self._learners, self._objective = pairs, learners, objective
        self._micro_batch = micro_batch
        self._pad, self._device = vlm.language.pad, vlm.language.device
        self._cohort = Cohort(vlm, [learner.start for learner in learners])
        self._losses: list[list[float]] = [[] for _ in learners]
        self._examples = [0] * len(learners)
        self._local = LocalRound(
            cohort=self._cohort,
            broadcast=broadcast,
            memory=_stacked_memory(learners, self._cohort.starts),
            remembers_C=torch.tensor([bool(learner.memory) for learner in learners]),
            gradient_at_start=self._gradient_at_start,
        )
        self._optimizer = self._objective.optimizer(self._local, settings)
        for number, learner in enumerate(learners):
            if learner.optimizer is not None:
                self._optimizer.load(number, learner.optimizer)

    def train(self, on_step: Callable[[int, float], None] | None) -> None:
        objective, local = self._objective, self._local
        objective.begin(local)
        rates = [objective.rates(learner.part.rates) for learner in self._learners]
        for step, batch in self._all_batches():
            objective.observe(local, batch)
            losses_A, gradients = self._gradients(batch)
            displacement = objective.displacement(gradients)
            if displacement is not None:
                gradients = self._gradients_beside(batch, displacement)
            objective.correct(local, gradients, batch.learners_A)
            active = batch.learners_A.tolist()
            rates_A = torch.tensor([rates[learner][step] for learner in active])
            self._optimizer.step(gradients, batch.learners_A, rates_A)
            for learner, loss, samples in zip(active, losses_A.tolist(), batch.sizes_A.tolist(), strict=True):
                self._losses[learner].append(loss)
                self._examples[learner] += samples
            if on_step is not None:
                on_step(step, float(losses_A.mean()))
        if not all(self._losses):
            raise UserError("a client's whole part of the round holds no usable picture; see the log for their names")
        objective.end(local)

    def measure(self) -> None:
        objective, local = self._objective, self._local
        for _, batch in self._all_batches():
            objective.observe(local, batch)
            for learner, samples in zip(batch.learners_A.tolist(), batch.sizes_A.tolist(), strict=True):
                self._examples[learner] += samples
        objective.end(local)

    def results(self, *, with_second_moment: bool) -> list[Trained]:
        errors = self._alignment_errors()
        out = []
        for number, learner in enumerate(self._learners):
            state = self._cohort.of_learner(number)
            update = ClientUpdate(
                state=state,
                num_examples=self._examples[number],
                alignment_error=errors[number],
                second_moment=self._optimizer.second_moment(number) if with_second_moment else None,
                extra=_of_learner(self._local.extras, number) or None,
            )
            change = sum(float((state[name].double() - learner.start[name].double()).square().sum()) for name in state)
            memory = _of_learner(self._local.memory, number)
            out.append(Trained(update, self._losses[number], self._optimizer.saved(number), change**0.5, memory))
        return out

    def _batches(self, step: int) -> dict[int, Batch]:
        batches = {}
        for number, learner in enumerate(self._learners):
            if step < len(learner.part.batches):
                batch = self._pairs.batch(learner.part.batches[step], learner.part.swapped)
                if len(batch.lengths):
                    batches[number] = batch
        return batches

    def _all_batches(self) -> Iterator[tuple[int, JointBatch]]:
        """Every step's number and joint batch, but for those of which every picture turned out bad while it was read.

        For a GPU the next one is read while the last is computed.
        """
        steps = max(len(learner.part.batches) for learner in self._learners)
        with Ahead(self._joint, steps, depth=read_ahead(self._device)) as batches:
            for step, batch in enumerate(batches):
                if batch is not None:
                    yield step, batch

    def _joint(self, step: int) -> JointBatch | None:
        batches = self._batches(step)
        return JointBatch.of(batches, pad=self._pad, device=self._device) if batches else None

    def _gradients(self, batch: JointBatch) -> tuple[Tensor, Stacked]:
        """(A,) caption losses, and the gradients of these with the objective's penalty."""
        return self._summed(batch, self._objective.penalty)

    def _summed(self, batch: JointBatch, penalty: Penalty | None) -> tuple[Tensor, Stacked]:
        """(A,) caption losses and the gradients, over the batch's pieces."""
        pieces = batch.pieces(self._micro_batch)
        if len(pieces) == 1:
            losses_A, penalty_A = self._losses_of(batch, penalty)
            total_A = losses_A if penalty_A is None else losses_A + penalty_A
            return losses_A.detach(), self._cohort.gradients(total_A, batch.learners_A)
        sums_A = torch.zeros(len(batch.learners_A), device=self._device)
        gradients: Stacked = {}
        row_of = {learner: row for row, learner in enumerate(batch.learners_A.tolist())}
        tokens_A, samples_A = batch.count_tokens(), batch.sizes_A
        for piece in pieces:
            rows = torch.tensor([row_of[learner] for learner in piece.learners_A.tolist()])
            # the loss is a mean over a learner's tokens, a penalty one over its samples (or over neither)
            losses_A, penalty_A = self._losses_of(piece, penalty)
            losses_A = losses_A * (piece.count_tokens() / tokens_A[rows]).to(losses_A)
            total_A = losses_A
            if penalty_A is not None:
                total_A = losses_A + penalty_A * (piece.sizes_A / samples_A[rows]).to(penalty_A)
            for name, gradient in self._cohort.gradients(total_A, piece.learners_A).items():
                if name not in gradients:
                    gradients[name] = gradient.new_zeros(len(batch.learners_A), *gradient.shape[1:])
                gradients[name][rows] += gradient
            sums_A[rows] += losses_A.detach()
        return sums_A, gradients

    def _losses_of(self, batch: JointBatch, penalty: Penalty | None) -> tuple[Tensor, Tensor | None]:
        visual_ABPD = self._cohort.project(self._cohort.parameters, batch)
        losses_A = self._cohort.caption_losses(visual_ABPD, batch)
        return losses_A, None if penalty is None else penalty(self._local, batch, visual_ABPD)

    def _gradients_beside(self, batch: JointBatch, displacement: Stacked) -> Stacked:
        """The gradients at the displaced projectors; the projectors themselves stay where they are."""
        parameters = self._cohort.parameters
        kept = {name: tensor.detach().clone() for name, tensor in parameters.items()}
        for name, tensor in parameters.items():
            tensor.data[batch.learners_A] += displacement[name]
        _, gradients = self._gradients(batch)
        for name, tensor in parameters.items():
            tensor.data.copy_(kept[name])
        return gradients

    def _gradient_at_start(self) -> Stacked:
        """The mean over a part's batches of the caption loss's gradient, without a step."""
        sums = {name: torch.zeros_like(tensor) for name, tensor in self._cohort.starts.items()}
        counts_C = torch.zeros(len(self._learners))
        for _, batch in self._all_batches():
            _, gradients = self._summed(batch, None)
            for name, gradient in gradients.items():
                sums[name][batch.learners_A] += gradient
            counts_C[batch.learners_A] += 1
        return {name: tensor / counts_C.view(-1, *[1] * (tensor.dim() - 1)).to(tensor) for name, tensor in sums.items()}

    def _alignment_errors(self) -> list[float]:
        """E of docs/methods.md: the mean over all pairs of each learner's part, after training."""
        errors: list[list[Tensor]] = [[] for _ in self._learners]
        for _, batch in self._all_batches():
            active = batch.learners_A.tolist()
            for learner, own in zip(active, self._cohort.alignment_errors(batch), strict=True):
                errors[learner].append(own)
        return [float(torch.cat(own).double().mean()) for own in errors]


def read_ahead(device: torch.device) -> int:
    """Batches that are read ahead for a device: one for a GPU; none for a CPU, which a loader would only slow down."""
    return 1 if device.type == "cuda" else 0


def _stacked_memory(learners: Sequence[Learner], starts: Stacked) -> dict[str, Stacked]:
    """What the objective kept, stacked; zeros for a learner that has nothing yet."""
    memories = [learner.memory or {} for learner in learners]
    labels = sorted({label for memory in memories for label in memory})
    return {
        label: {
            name: torch.stack(
                [memory[label][name].to(tensor) if label in memory else tensor[0] * 0 for memory in memories]
            )
            for name, tensor in starts.items()
        }
        for label in labels
    }


def _of_learner(stacked: Mapping[str, Stacked], number: int) -> dict[str, Tensors]:
    return {
        label: {name: tensor[number].detach().cpu().clone() for name, tensor in tensors.items()}
        for label, tensors in stacked.items()
    }
