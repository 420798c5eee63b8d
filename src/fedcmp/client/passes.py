"""Passes over learners' parts without a step: what is measured before the first one, and after the last.

Shapes: see cohort.py.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from fedcmp.client.cohort import Cohort, JointBatch, Stacked
from fedcmp.client.local_round import LocalRound
from fedcmp.client.step_batches import StepBatches
from fedcmp.client.steps.meters import InputMeter
from fedcmp.distributed import Group


def mean_gradients(
    batches: StepBatches, cohort: Cohort, group: Group, own_gradients: Callable[[JointBatch], Stacked]
) -> Stacked:
    """Return the mean over a part's batches of the caption loss's gradient, name -> (C, ...).

    Args:
        batches: of the learners' parts.
        cohort: the learners.
        group: the ranks that divide every batch between them.
        own_gradients: a batch -> what this rank's samples contribute to its gradients, name -> (A, ...).
    """
    sums = {name: torch.zeros_like(tensor) for name, tensor in cohort.starts.items()}
    counts_C = torch.zeros(len(cohort))
    for _, batch in batches:
        for name, gradient in own_gradients(batch).items():
            sums[name][batch.learners_A] += gradient
        counts_C[batch.learners_A] += 1
    sums = dict(zip(sums, group.sums(list(sums.values())), strict=True))
    return {name: tensor / counts_C.view(-1, *[1] * (tensor.dim() - 1)).to(tensor) for name, tensor in sums.items()}


def mean_grams(batches: StepBatches, local: LocalRound) -> Stacked:
    """Return C_k: the mean over a part's visual tokens of x x^T, see InputMeter; weight's name -> (C, I, I)."""
    meter = InputMeter(len(local.cohort))
    for _, batch in batches:
        meter.observe(local, batch)
    return meter.measured(local)


def alignment_errors(batches: StepBatches, cohort: Cohort, group: Group) -> list[float]:
    """Return E of docs/methods.md: the mean over all pairs of each learner's part."""
    errors: list[list[Tensor]] = [[] for _ in range(len(cohort))]
    for _, batch in batches:
        active = batch.learners_A.tolist()
        for learner, own in zip(active, cohort.alignment_errors(batch), strict=True):
            errors[learner].append(own)
    sums_C = torch.stack([torch.cat(own).double().sum() for own in errors])
    counts_C = torch.tensor([sum(map(len, own)) for own in errors], dtype=torch.float64)
    sums_C, counts_C = group.sums([sums_C, counts_C])
    mean_C: list[float] = (sums_C / counts_C).tolist()
    return mean_C
