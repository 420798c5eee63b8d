"""Local training: one epoch of each learner's part of its pairs, for one learner or for many on one backbone.

Only the trainable's tensors (a projector's, say) are trained. The state of what takes the steps (steps/) is fresh at
each call unless it is handed in (centralized and local-only learners keep theirs over the whole pass). Several ranks
may share every batch: each computes its samples' part of the loss, gradients are added up, and all take the step that
one process would take. Shapes: see cohort.py.
"""

import math
from collections.abc import Callable, Collection, Sequence

import torch
from torch import Tensor

from fedcmp.aggregation import ClientUpdate
from fedcmp.client.cohort import Cohort, JointBatch, Stacked
from fedcmp.client.local_round import LocalRound, of_learner, stacked_memory
from fedcmp.client.objectives.base import Objective
from fedcmp.client.optimizer import Optimisation
from fedcmp.client.part_saving import PartSaving
from fedcmp.client.parts import Learner, PartStore, Trained
from fedcmp.client.passes import alignment_errors, mean_gradients, mean_grams
from fedcmp.client.step_batches import StepBatches
from fedcmp.client.steps import Step, create_step
from fedcmp.client.steps.meters import Meters
from fedcmp.client.taking_part import TakingPart
from fedcmp.data.prepared import PreparedPairs
from fedcmp.distributed import ALONE, Group
from fedcmp.errors import UserError
from fedcmp.model.vlm import VLM

Tensors = dict[str, Tensor]
Penalty = Callable[[LocalRound, JointBatch, Tensor], Tensor | None]


def train_cohort(
    vlm: VLM,
    pairs: PreparedPairs,
    learners: Sequence[Learner],
    settings: Optimisation,
    *,
    objective: Objective | None = None,
    step: Step | None = None,
    broadcast: dict[str, Tensors] | None = None,
    asked: Collection[str] = (),
    with_second_moment: bool = False,
    measure_only: bool = False,
    micro_batch: int | None = None,
    on_step: Callable[[int, float], None] | None = None,
    group: Group = ALONE,
    store: PartStore | None = None,
) -> list[Trained]:
    """Train each learner's projector for one epoch over its part, all learners' samples of a step in one batch.

    Args:
        vlm: the backbone; its projector says of what kind theirs are, and is not changed.
        pairs: where the batches come from.
        learners: parts and starts; learners with fewer batches are done earlier.
        settings: of the steps.
        objective: what is minimised beside the caption loss; None: nothing.
        step: how they step, made for this call; None: by AdamW.
        broadcast: what the server sent beside the projector: label -> name -> tensor.
        asked: labels of what the server reads of a step, or of what is measured alongside (steps/meters.py).
        with_second_moment: send AdamW's bias-corrected second moment along, for rules that weigh parameters.
        measure_only: take no step and compute no loss; objective and step see every batch (an opening round).
        micro_batch: samples that go through projector and LLM at once, their gradients summed; None: all of a step.
            The result is the same to rounding; memory is bounded by so many samples and the step's features, whatever
            the cohort.
        on_step: called with the step's number and its mean loss, which a part that is only measured has not (NaN); may
            raise to stop.
        group: the ranks that call this with the same arguments and divide every batch between them.
        store: where the learners' state is saved between steps, and from where they continue; None: nowhere.

    Returns:
        For each learner its update, with the alignment error measured after training over the part's own pairs.

    Raises:
        ValueError: a part is empty.
        UserError: no picture of a part is usable.
    """
    if any(not learner.part.batches for learner in learners):
        raise ValueError("a part without pairs cannot be trained on")
    run = _Round(
        vlm,
        pairs,
        learners,
        settings,
        objective or Objective(),
        step or create_step("adamw"),
        broadcast or {},
        frozenset(asked),
        micro_batch,
        group,
        with_second_moment=with_second_moment,
    )
    if measure_only:
        run.measure(on_step)
    else:
        run.train(on_step, store)
    return run.results()


class _Round:
    """One call of train_cohort."""

    def __init__(
        self,
        vlm: VLM,
        pairs: PreparedPairs,
        learners: Sequence[Learner],
        settings: Optimisation,
        objective: Objective,
        step: Step,
        broadcast: dict[str, Tensors],
        asked: frozenset[str],
        micro_batch: int | None,
        group: Group,
        *,
        with_second_moment: bool,
    ) -> None:
        self._learners, self._objective, self._group = learners, objective, group
        self._device = vlm.language.device
        self._cohort = Cohort(vlm, [learner.start for learner in learners], at_once=micro_batch)
        self._batches = StepBatches(
            pairs,
            [learner.part.batches for learner in learners],
            [learner.part.swapped for learner in learners],
            pad=vlm.language.pad,
            device=self._device,
            group=group,
        )
        self._losses: list[list[float]] = [[] for _ in learners]
        self._examples = [0] * len(learners)
        self._local = LocalRound(
            cohort=self._cohort,
            broadcast=broadcast,
            memory=stacked_memory([learner.memory or {} for learner in learners], self._device),
            remembers_C=torch.tensor([bool(learner.memory) for learner in learners]),
            gradient_at_start=lambda: mean_gradients(self._batches, self._cohort, group, self._caption_gradients),
            grams_at_start=lambda: mean_grams(self._batches, self._local),
            asked=asked,
            group=group,
        )
        self._with_second_moment = with_second_moment
        self._optimizer = step.optimizer(self._local, settings)
        self._meters = Meters(
            self._local,
            self._optimizer,
            own=step.sends,
            beta=settings.beta_2,
            with_second_moment=with_second_moment and not self._optimizer.keeps_second_moment,
        )
        self._taking_part = TakingPart(self._local, objective, step, self._meters)
        for number, learner in enumerate(learners):
            if learner.optimizer is not None:
                self._optimizer.load(number, learner.optimizer)

    def train(self, on_step: Callable[[int, float], None] | None, store: PartStore | None) -> None:
        objective, local = self._objective, self._local
        saving = PartSaving(store, local, self._optimizer, self._taking_part, self._losses, self._examples)
        first_step = saving.continued()
        if not first_step:
            objective.begin(local)
        rates = [objective.rates(learner.part.rates) for learner in self._learners]
        for step, batch in self._batches.after(first_step):
            self._taking_part.observe(batch)
            losses_A, gradients = self._gradients(batch)
            displacement = objective.displacement(gradients)
            if displacement is not None:
                gradients = self._gradients_beside(batch, displacement)
            objective.correct(local, gradients, batch.learners_A)
            active = batch.learners_A.tolist()
            rates_A = torch.tensor([rates[learner][step] for learner in active])
            self._optimizer.step(gradients, batch.learners_A, rates_A)
            del gradients, displacement  # as large as the projectors: not beside the next step's activations
            for learner, loss, samples in zip(active, losses_A.tolist(), batch.samples_A.tolist(), strict=True):
                self._losses[learner].append(loss)
                self._examples[learner] += samples
            saving.after(step)
            if on_step is not None:
                on_step(step, float(losses_A.mean()))
        if not all(self._losses):
            raise UserError("a client's whole part of the round holds no usable picture; see the log for their names")
        self._taking_part.end()

    def measure(self, on_step: Callable[[int, float], None] | None) -> None:
        for step, batch in self._batches:
            self._taking_part.observe(batch)
            if on_step is not None:
                on_step(step, math.nan)
            for learner, samples in zip(batch.learners_A.tolist(), batch.samples_A.tolist(), strict=True):
                self._examples[learner] += samples
        self._taking_part.end()

    def results(self) -> list[Trained]:
        errors = alignment_errors(self._batches, self._cohort, self._group)
        metered = self._meters.second_moments(self._local)
        out = []
        for number, learner in enumerate(self._learners):
            state = self._cohort.of_learner(number)
            update = ClientUpdate(
                state=state,
                num_examples=self._examples[number],
                alignment_error=errors[number],
                second_moment=self._second_moment(number, metered),
                extra=of_learner(self._local.extras, number) or None,
            )
            change = sum(float((state[name].double() - learner.start[name].double()).square().sum()) for name in state)
            memory = of_learner(self._local.memory, number)
            out.append(Trained(update, self._losses[number], self._optimizer.saved(number), change**0.5, memory))
        return out

    def _second_moment(self, learner: int, metered: Stacked | None) -> Tensors | None:
        if metered is not None:
            return {name: tensor[learner].cpu() for name, tensor in metered.items()}
        return self._optimizer.second_moment(learner) if self._with_second_moment else None

    def _gradients(self, batch: JointBatch) -> tuple[Tensor, Stacked]:
        """(A,) caption losses, and the gradients of these with the objective's penalty: of all ranks' samples."""
        losses_A, gradients = self._own_gradients(batch, self._objective.penalty)
        losses_A, *summed = self._group.sums([losses_A, *gradients.values()])
        return losses_A, dict(zip(gradients, summed, strict=True))

    def _caption_gradients(self, batch: JointBatch) -> Stacked:
        return self._own_gradients(batch, None)[1]

    def _own_gradients(self, batch: JointBatch, penalty: Penalty | None) -> tuple[Tensor, Stacked]:
        """What this rank's samples contribute to the losses and gradients; the ranks' contributions add up to them."""
        # perhaps no sample fell to this rank
        pieces = batch.pieces(self._cohort.at_once) if len(batch.lengths_S) else []
        if len(pieces) == self._group.size == 1:
            losses_A, penalty_A = self._losses_of(batch, penalty)
            total_A = losses_A if penalty_A is None else losses_A + penalty_A
            return losses_A.detach(), self._cohort.gradients(total_A, batch.learners_A)
        sums_A = torch.zeros(len(batch.learners_A), device=self._device)
        gradients = {name: torch.zeros_like(t[batch.learners_A]) for name, t in self._cohort.starts.items()}
        for piece in pieces:
            rows = batch.rows_of(piece)
            # the loss is a mean over a learner's tokens, a penalty one over its samples (or over neither)
            losses_A, penalty_A = self._losses_of(piece, penalty)
            losses_A = losses_A * (piece.count_tokens() / piece.tokens_A).to(losses_A)
            total_A = losses_A
            if penalty_A is not None:
                total_A = losses_A + penalty_A * (piece.sizes_A / piece.samples_A).to(penalty_A)
            for name, gradient in self._cohort.gradients(total_A, piece.learners_A).items():
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
