"""Local training: one epoch of each learner's part of its pairs, for one learner or for many on one backbone.

Only the trainable's tensors (a projector's, say) are trained. The state of what takes the steps (steps/) is fresh at
each call unless it is handed in (centralized and local-only learners keep theirs over the whole pass). Several ranks
may share every batch: each computes its samples' part of the loss, gradients are added up, and all take the step that
one process would take. Shapes: see cohort.py.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence

import torch
from torch import Tensor

from fedcmp.aggregation import ClientUpdate
from fedcmp.client.cohort import Cohort, JointBatch, Stacked
from fedcmp.client.local_round import LocalRound
from fedcmp.client.objectives.base import Objective
from fedcmp.client.optimizer import Optimisation
from fedcmp.client.parts import Learner, PartStore, Trained
from fedcmp.client.step_batches import StepBatches
from fedcmp.client.steps import Step, create_step
from fedcmp.client.steps.meters import InputMeter, Meters
from fedcmp.data.prepared import PreparedPairs
from fedcmp.distributed import ALONE, Group
from fedcmp.errors import UserError
from fedcmp.model.vlm import VLM
from fedcmp.wire.part_state import PartState

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
        self._learners, self._objective, self._step, self._group = learners, objective, step, group
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
            memory=_stacked_memory(learners, self._cohort.starts),
            remembers_C=torch.tensor([bool(learner.memory) for learner in learners]),
            gradient_at_start=self._gradient_at_start,
            grams_at_start=self._grams_at_start,
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
        for number, learner in enumerate(learners):
            if learner.optimizer is not None:
                self._optimizer.load(number, learner.optimizer)

    def train(self, on_step: Callable[[int, float], None] | None, store: PartStore | None) -> None:
        objective, local = self._objective, self._local
        first_step = 0 if store is None else self._continue(store)
        if not first_step:
            objective.begin(local)
        rates = [objective.rates(learner.part.rates) for learner in self._learners]
        for step, batch in self._batches.after(first_step):
            self._observe(batch)
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
            if store is not None and self._agreed(store.due()):
                store.save(self._part_state(store.work, step + 1))
            if on_step is not None:
                on_step(step, float(losses_A.mean()))
        if not all(self._losses):
            raise UserError("a client's whole part of the round holds no usable picture; see the log for their names")
        self._end()

    def _observe(self, batch: JointBatch) -> None:
        for seeing in (self._objective, self._step, self._meters):
            seeing.observe(self._local, batch)

    def _end(self) -> None:
        for seeing in (self._objective, self._step, self._meters):
            seeing.end(self._local)

    def _gathered(self) -> Stacked:
        """What objective, step and meters have gathered, each under its own name."""
        parts = {"objective": self._objective, "step": self._step, "meters": self._meters}
        return {f"{part}/{name}": tensor for part, own in parts.items() for name, tensor in own.part_state().items()}

    def _take_up(self, gathered: Stacked) -> None:
        for part, own in (("objective", self._objective), ("step", self._step), ("meters", self._meters)):
            start = f"{part}/"
            own.load_part_state({n.removeprefix(start): t for n, t in gathered.items() if n.startswith(start)})

    def _agreed(self, due: bool) -> bool:
        """Whether rank 0 says so: all ranks save after the same step."""
        (flag,) = self._group.sums([torch.tensor([float(due and self._group.rank == 0)])])
        return bool(flag.item())

    def _part_state(self, work: str, next_step: int) -> PartState:
        detached = {name: tensor.detach() for name, tensor in self._cohort.parameters.items()}
        return PartState(
            work=work,
            next_step=next_step,
            losses=self._losses,
            examples=self._examples,
            parameters=detached,
            optimizer=self._optimizer.part_state(),
            gathered=self._gathered(),
            extras=self._local.extras,
            memory=self._local.memory,
        )

    def _continue(self, store: PartStore) -> int:
        """Take up what was saved in the middle of this part; return the next step's number, 0 at the beginning."""
        saved = store.load()
        steps = self._group.gather(0 if saved is None else saved.next_step)
        if saved is None or len(set(steps)) > 1:  # killed while the ranks saved: some are a save ahead
            return 0
        for name, tensor in self._cohort.parameters.items():
            tensor.data.copy_(saved.parameters[name])
        self._optimizer.load_part_state(saved.optimizer)
        self._take_up(self._on_device(saved.gathered))
        self._local.extras.update({label: self._on_device(own) for label, own in saved.extras.items()})
        self._local.memory.update({label: self._on_device(own) for label, own in saved.memory.items()})
        self._losses = [list(own) for own in saved.losses]
        self._examples = list(saved.examples)
        return saved.next_step

    def _on_device(self, tensors: Stacked) -> Stacked:
        return {name: tensor.to(self._device) for name, tensor in tensors.items()}

    def measure(self, on_step: Callable[[int, float], None] | None) -> None:
        for step, batch in self._batches:
            self._observe(batch)
            if on_step is not None:
                on_step(step, math.nan)
            for learner, samples in zip(batch.learners_A.tolist(), batch.samples_A.tolist(), strict=True):
                self._examples[learner] += samples
        self._end()

    def results(self) -> list[Trained]:
        errors = self._alignment_errors()
        metered = self._meters.second_moments(self._local)
        out = []
        for number, learner in enumerate(self._learners):
            state = self._cohort.of_learner(number)
            update = ClientUpdate(
                state=state,
                num_examples=self._examples[number],
                alignment_error=errors[number],
                second_moment=self._second_moment(number, metered),
                extra=_of_learner(self._local.extras, number) or None,
            )
            change = sum(float((state[name].double() - learner.start[name].double()).square().sum()) for name in state)
            memory = _of_learner(self._local.memory, number)
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

    def _gradient_at_start(self) -> Stacked:
        """The mean over a part's batches of the caption loss's gradient, without a step."""
        sums = {name: torch.zeros_like(tensor) for name, tensor in self._cohort.starts.items()}
        counts_C = torch.zeros(len(self._learners))
        for _, batch in self._batches:
            for name, gradient in self._own_gradients(batch, None)[1].items():
                sums[name][batch.learners_A] += gradient
            counts_C[batch.learners_A] += 1
        sums = dict(zip(sums, self._group.sums(list(sums.values())), strict=True))
        return {name: tensor / counts_C.view(-1, *[1] * (tensor.dim() - 1)).to(tensor) for name, tensor in sums.items()}

    def _grams_at_start(self) -> Stacked:
        """The mean over a part's visual tokens of x x^T, x what a layer is fed and a one, without a step."""
        meter = InputMeter(len(self._learners))
        for _, batch in self._batches:
            meter.observe(self._local, batch)
        return meter.measured(self._local)

    def _alignment_errors(self) -> list[float]:
        """E of docs/methods.md: the mean over all pairs of each learner's part, after training."""
        errors: list[list[Tensor]] = [[] for _ in self._learners]
        for _, batch in self._batches:
            active = batch.learners_A.tolist()
            for learner, own in zip(active, self._cohort.alignment_errors(batch), strict=True):
                errors[learner].append(own)
        sums_C = torch.stack([torch.cat(own).double().sum() for own in errors])
        counts_C = torch.tensor([sum(map(len, own)) for own in errors], dtype=torch.float64)
        sums_C, counts_C = self._group.sums([sums_C, counts_C])
        mean_C: list[float] = (sums_C / counts_C).tolist()
        return mean_C


def _stacked_memory(learners: Sequence[Learner], starts: Stacked) -> dict[str, Stacked]:
    """What objective and step kept, stacked; zeros for a learner that has nothing yet."""
    memories = [learner.memory or {} for learner in learners]
    device = next(iter(starts.values())).device
    stacked: dict[str, Stacked] = {}
    for label in sorted({label for memory in memories for label in memory}):
        known = next(memory[label] for memory in memories if label in memory)
        kept = [memory.get(label) or {name: tensor * 0 for name, tensor in known.items()} for memory in memories]
        stacked[label] = {name: torch.stack([own[name] for own in kept]).to(device) for name in known}
    return stacked


def _of_learner(stacked: Mapping[str, Stacked], number: int) -> dict[str, Tensors]:
    return {
        label: {name: tensor[number].detach().cpu().clone() for name, tensor in tensors.items()}
        for label, tensors in stacked.items()
    }
