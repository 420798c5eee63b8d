"""A local round without a model: three learners of two tensors, whose gradients and inputs are given.

Learners leave off at different steps, so that a step sees all of them, some of them, or one.
"""

from types import SimpleNamespace

import numpy as np
import torch

from fedcmp.client.local_round import LocalRound
from fedcmp.client.optimizer import Optimisation

LEARNERS, OUTPUTS, INPUTS = 3, 4, 5
WEIGHT, BIAS, TOKEN = "layer.weight", "layer.bias", "token"
SHAPES = {WEIGHT: (OUTPUTS, INPUTS), BIAS: (OUTPUTS,), TOKEN: (2, 3)}  # the last is no layer's matrix
SETTINGS = Optimisation(max_gradient_norm=1e9, weight_decay=0.1)
STEPS = [(0, 1, 2)] * 2 + [(0, 2)] * 2 + [(2,)] * 2
LAST = len(STEPS)


def draw(seed, *shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def state(seed):
    """One learner's tensors."""
    return {name: draw(seed + i, *shape) for i, (name, shape) in enumerate(SHAPES.items())}


class Learners:
    """What a step asks of a cohort."""

    def __init__(self):
        own = [state(100 * learner) for learner in range(LEARNERS)]
        self.starts = {name: torch.stack([one[name] for one in own]) for name in SHAPES}
        self.parameters = {name: tensor.clone() for name, tensor in self.starts.items()}

    def __len__(self):
        return LEARNERS


def local_round(*, broadcast=None, memory=None, asked=(), grams_at_start=None):
    return LocalRound(
        cohort=Learners(),
        broadcast=broadcast or {},
        memory=memory or {},
        remembers_C=torch.zeros(LEARNERS, dtype=torch.bool),
        gradient_at_start=dict,
        grams_at_start=grams_at_start or dict,
        asked=frozenset(asked),
    )


def gradients_of(learner, number):
    return {name: tensor.numpy() for name, tensor in state(1000 + 100 * learner + 10 * number).items()}


def inputs_of(learner, number):
    """(N, I + 1) what the layer is fed in a learner's step, a one behind it."""
    fed = draw(5000 + 100 * learner + number, 6 + learner, INPUTS).numpy()
    return np.concatenate([fed, np.ones((len(fed), 1))], 1)


def rate_of(number):
    return 0.1 / (1 + number)


def take_steps(step, local, *, first=0, last=LAST, optimizer=None, watch=()):
    """Let the learners step from one number to another; return the optimizer."""
    optimizer = optimizer or step.optimizer(local, SETTINGS)
    for number in range(first, last):
        active = list(STEPS[number])
        fed = [inputs_of(learner, number) for learner in active]
        grams = {WEIGHT: torch.stack([torch.from_numpy(x.T @ x) for x in fed])}
        batch = SimpleNamespace(learners_A=torch.tensor(active))
        local._seen, local._grams = batch, (grams, torch.tensor([len(x) for x in fed]))
        for seeing in (step, *watch):
            seeing.observe(local, batch)
        own = [gradients_of(learner, number) for learner in active]
        gradients = {name: torch.stack([torch.from_numpy(one[name]) for one in own]) for name in SHAPES}
        optimizer.step(gradients, torch.tensor(active), torch.full((len(active),), rate_of(number)))
    return optimizer


def numbers_of(learner):
    return [number for number, active in enumerate(STEPS) if learner in active]
