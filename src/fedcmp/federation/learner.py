"""The client's half of a round: an Assignment in, a Reply out; what stays with the client goes into its own folder.

1. start from the server's tensors (or the client's own), with what the client kept since its last round
2. train one epoch on this round's part of its pairs (client/training.py)
3. write the ClientState, then answer: a reply that arrives has its state on disk
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedcmp.client.objectives import create_objective
from fedcmp.client.optimizer import Optimisation
from fedcmp.client.parts import Learner, Part, Trained
from fedcmp.client.schedule import Schedule
from fedcmp.client.steps import create_step
from fedcmp.client.training import train_cohort
from fedcmp.config import Recipe
from fedcmp.data.prepared import PreparedPairs
from fedcmp.distributed import ALONE, Group
from fedcmp.federation.client_folder import ClientFolder, PartFile
from fedcmp.model.vlm import VLM
from fedcmp.wire.messages import Assignment, ClientState, Reply
from fedcmp.wire.naming import Tensors
from fedcmp.wire.payload import decode, difference, encode, encode_with_feedback

Batches = Callable[[int], list[list[NDArray[np.int64]]]]


@dataclass(frozen=True)
class Work:
    """One client's assignment, and where the client keeps its state."""

    client: int
    assignment: Assignment
    folder: ClientFolder


class ClientSide:
    """What carries out assignments, of one client or of a cohort on one backbone.

    Args:
        recipe: settings of local training.
        vlm: the frozen parts, and of what kind the trained tensors are.
        pairs: the training pairs.
        batches: client -> its batches in each round's part.
        swapped: pair -> the pair whose caption it carries.
        on_step: called after every optimiser step; may raise to stop.
        group: the ranks that train every part together.
    """

    def __init__(
        self,
        recipe: Recipe,
        vlm: VLM,
        pairs: PreparedPairs,
        batches: Batches,
        *,
        swapped: dict[int, int],
        on_step: Callable[[], None] = lambda: None,
        group: Group = ALONE,
    ) -> None:
        self._recipe, self._vlm, self._pairs, self._batches = recipe, vlm, pairs, batches
        self._swapped, self._on_step, self._group = swapped, on_step, group

    def carry_out(self, works: Sequence[Work]) -> list[Reply]:
        """Train the clients of one cohort; their assignments differ in `continues` only, and share their tensors.

        Raises:
            UserError: a client's state is missing, or no image of a part is usable.
        """
        begun = time.perf_counter()
        shared = works[0].assignment
        training = self._recipe.training
        received = decode(shared.state)
        states = [work.folder.load(work.assignment.continues) for work in works]
        learners = [self._learner(work, received, state) for work, state in zip(works, states, strict=True)]
        part_file = self._part_file(works)
        trained = train_cohort(
            self._vlm,
            self._pairs,
            learners,
            Optimisation(training.beta_1, training.beta_2, training.weight_decay, training.max_gradient_norm),
            objective=create_objective(shared.objective, **shared.objective_options),
            step=create_step(shared.step, **shared.step_options),
            broadcast={label: decode(named) for label, named in shared.public.items()},
            asked=shared.extras,
            with_second_moment=shared.with_second_moment,
            measure_only=shared.measure_only,
            micro_batch=training.micro_batch,
            on_step=lambda _step, _loss: self._on_step(),
            group=self._group,
            store=part_file,
        )
        seconds = (time.perf_counter() - begun) / len(works)
        replies = []
        for work, learner, state, done in zip(works, learners, states, trained, strict=True):
            kept, reply = _answer(work, learner, state, done, seconds)
            if kept and self._group.rank == 0:
                work.folder.save(kept, continued=work.assignment.continues)
            replies.append(reply)
        if part_file is not None:
            part_file.done()
        return replies

    def _learner(self, work: Work, received: Tensors, state: ClientState | None) -> Learner:
        training, assignment = self._recipe.training, work.assignment
        peak = assignment.learning_rate * self._recipe.scenario.rate_factors.get(str(work.client), 1.0)
        schedule = Schedule(peak, training.warmup_ratio, training.schedule)
        batches = self._batches(work.client)
        number = assignment.round - 1
        part = Part(batches[number], schedule.rates([len(part) for part in batches], number), self._swapped)
        state = state or ClientState(assignment.round)
        return Learner(part, received or state.state, state.optimizer or None, state.memory or None)

    def _part_file(self, works: Sequence[Work]) -> PartFile | None:
        seconds = self._recipe.run.save_seconds
        if seconds is None or works[0].assignment.measure_only:
            return None
        assignments = [(work.client, work.assignment) for work in works]
        return PartFile(works[0].folder.path, seconds=seconds, assignments=assignments, group=self._group)


def _answer(
    work: Work, learner: Learner, before: ClientState | None, done: Trained, seconds: float
) -> tuple[ClientState, Reply]:
    """What the client keeps, and what it sends."""
    assignment, update, forms = work.assignment, done.update, work.assignment.forms
    residual: Tensors = {}
    if forms.whole:
        sent: dict[str, Tensors] = {"state": update.state}
    else:
        change = difference(update.state, learner.start)
        if assignment.error_feedback and forms.update != "float32":
            wire, residual = encode_with_feedback(change, before.residual if before else None, forms.update)
        else:
            wire = encode(change, forms.update)
        sent = {"update": wire}
    kept = ClientState(
        assignment.round,
        memory={} if assignment.measure_only else done.memory,
        residual={} if assignment.measure_only else residual,
        optimizer=done.optimizer if assignment.keep_optimizer else {},
        state=update.state if assignment.keep_optimizer else {},
    )
    reply = Reply(
        round=assignment.round,
        client=work.client,
        num_examples=update.num_examples,
        alignment_error=update.alignment_error,
        measure_only=assignment.measure_only,
        figures=_figures(learner, done),
        seconds=seconds,
        kept=bool(kept),
        second_moment=encode(update.second_moment or {}, forms.extra),
        extra={label: encode(named, forms.extra) for label, named in (update.extra or {}).items()},
        **sent,
    )
    return kept, reply


def _figures(learner: Learner, done: Trained) -> dict[str, float]:
    losses = done.losses
    figures = {"loss": float(np.mean(losses)), "loss_first": losses[0], "loss_last": losses[-1]} if losses else {}
    return figures | {"update_norm": done.change, "learning_rate": learner.part.rates[0]}
