"""Every step against its formula, written again in NumPy for one learner at a time."""

import numpy as np
import pytest
import torch

from fedcmp.client.steps import available_steps, create_step
from fedcmp.client.steps.canonical import random_rotation
from tests.client.steps.rounds import (
    BIAS,
    INPUTS,
    LEARNERS,
    OUTPUTS,
    SETTINGS,
    SHAPES,
    TOKEN,
    WEIGHT,
    draw,
    gradients_of,
    inputs_of,
    local_round,
    numbers_of,
    rate_of,
    state,
    take_steps,
)

JOINED = (OUTPUTS, INPUTS + 1)
DIRECTION = {name: 0.1 * tensor for name, tensor in state(77).items()}
MOMENTUM = draw(78, OUTPUTS, INPUTS)
CONTROL = draw(79, OUTPUTS, INPUTS)
OWN_MOMENTUM = draw(80, LEARNERS, OUTPUTS, INPUTS)
SECOND = {name: tensor.square() for name, tensor in state(81).items()}


def squared(seed, size):
    matrix = draw(seed, size, 2 * size)
    return matrix @ matrix.T


LEFT, RIGHT = squared(82, OUTPUTS), squared(83, INPUTS + 1)
BASIS = torch.linalg.qr(draw(84, INPUTS + 1, INPUTS + 1))[0]
GRAMS = torch.stack([squared(90 + learner, INPUTS + 1) for learner in range(LEARNERS)])

ROTATION = random_rotation(INPUTS + 1, seed=3, name=WEIGHT)


def join(named):
    return np.concatenate([named[WEIGHT], named[BIAS][:, None]], 1)


class AdamW:
    """One tensor's."""

    def __init__(self, shape, beta_1=0.9, beta_2=0.99, second=None, age=0.0):
        self.first, self.second = np.zeros(shape), np.zeros(shape) if second is None else second.numpy().copy()
        self.beta_1, self.beta_2, self.count, self.age = beta_1, beta_2, 0, age

    def direction(self, g):
        self.count += 1
        self.first = self.beta_1 * self.first + (1 - self.beta_1) * g
        self.second = self.beta_2 * self.second + (1 - self.beta_2) * g**2
        first = self.first / (1 - self.beta_1**self.count)
        second = self.second / (1 - self.beta_2 ** (self.count + self.age))
        return first / (np.sqrt(second) + 1e-8)


def moved(x, rate, direction):
    return x * (1 - rate * SETTINGS.weight_decay) - rate * direction


def strongest_first(gram):
    order = 1e-9 * np.trace(gram) / len(gram) * np.linspace(1, 0, len(gram))  # of equal ones the first
    return np.linalg.eigh(gram + np.diag(order))[1][:, ::-1]


class Soap:
    """A joined matrix's, refreshed every so many steps."""

    def __init__(self, refresh=10, sides="both", left=None, right=None):
        self.m, self.v, self.t, self.refresh, self.sides = np.zeros(JOINED), np.zeros(JOINED), 0, refresh, sides
        self.l, self.r = (None if gram is None else gram.numpy().copy() for gram in (left, right))
        self.ql, self.qr = (None if gram is None else strongest_first(gram) for gram in (self.l, self.r))

    def direction(self, g):
        self.t += 1
        if self.l is None:
            self.l, self.r = g @ g.T, g.T @ g
            self.ql, self.qr = strongest_first(self.l), strongest_first(self.r)
        ql = np.eye(OUTPUTS) if self.sides == "inputs" else self.ql
        qr = np.eye(INPUTS + 1) if self.sides == "outputs" else self.qr
        turned = ql.T @ g @ qr
        self.m = 0.95 * self.m + 0.05 * g
        self.v = 0.95 * self.v + 0.05 * turned**2
        mean, square = ql.T @ self.m @ qr / (1 - 0.95**self.t), self.v / (1 - 0.95**self.t)
        out = ql @ (mean / (np.sqrt(square) + 1e-8)) @ qr.T
        self.l, self.r = 0.95 * self.l + 0.05 * g @ g.T, 0.95 * self.r + 0.05 * g.T @ g
        if self.t % self.refresh == 0:
            self.ql, self.qr = np.linalg.qr(self.l @ self.ql)[0], np.linalg.qr(self.r @ self.qr)[0]
        return out


def newton_schulz(m):
    x = m / np.linalg.norm(m)
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x


class Inputs:
    """The damped running second moment."""

    def __init__(self, damping=0.1, decay=0.95):
        self.c, self.seen, self.damping, self.decay = 0.0, 0, damping, decay

    def see(self, x):
        self.seen += 1
        self.c = self.decay * self.c + (1 - self.decay) * x.T @ x / len(x)

    def damped(self, bias=True):
        c = self.c / (1 - self.decay**self.seen)
        c = c if bias else c[:-1, :-1]
        return c + self.damping * np.trace(c) / len(c) * np.eye(len(c))


def joined_walk(learner, direction, rest_factor=1.0, **rest):
    """Steps of the joined matrix in `direction(number, G)`; AdamW for what is no matrix."""
    begin = {name: tensor.numpy() for name, tensor in state(100 * learner).items()}
    x, token, adam = join(begin), begin[TOKEN], AdamW(SHAPES[TOKEN], **rest)
    for number in numbers_of(learner):
        g, rate = gradients_of(learner, number), rate_of(number)
        x = moved(x, rate, direction(number, join(g)))
        token = moved(token, rate * rest_factor, adam.direction(g[TOKEN]))
    return {WEIGHT: x[:, :-1], BIAS: x[:, -1], TOKEN: token}


def apart_walk(learner, direction, rest_factor=0.05):
    """Steps of the weight alone in `direction(number, G)`; AdamW for the others."""
    x = {name: tensor.numpy() for name, tensor in state(100 * learner).items()}
    rest = {name: AdamW(SHAPES[name]) for name in (BIAS, TOKEN)}
    for number in numbers_of(learner):
        g, rate = gradients_of(learner, number), rate_of(number)
        x[WEIGHT] = moved(x[WEIGHT], rate, direction(number, g[WEIGHT]))
        for name, adam in rest.items():
            x[name] = moved(x[name], rate * rest_factor, adam.direction(g[name]))
    return x


def adamw(learner):
    x = {name: tensor.numpy() for name, tensor in state(100 * learner).items()}
    rest = {name: AdamW(shape) for name, shape in SHAPES.items()}
    for number in numbers_of(learner):
        for name, adam in rest.items():
            x[name] = moved(x[name], rate_of(number), adam.direction(gradients_of(learner, number)[name]))
    return x


def canonical(basis_of, rho_of):
    def walk(learner):
        v, rho, adam = basis_of(learner).numpy(), float(rho_of(learner)), AdamW(JOINED)
        begin = {name: tensor.numpy() for name, tensor in state(100 * learner).items()}
        x, token, rest = join(begin), begin[TOKEN], AdamW(SHAPES[TOKEN])
        for number in numbers_of(learner):
            g, rate = gradients_of(learner, number), rate_of(number)
            x = moved(x, rate * rho, adam.direction(join(g) @ v) @ v.T)
            token = moved(token, rate, rest.direction(g[TOKEN]))
        return {WEIGHT: x[:, :-1], BIAS: x[:, -1], TOKEN: token}

    return walk


def own_basis(learner):
    return torch.from_numpy(np.linalg.eigh(GRAMS[learner].numpy())[1])


def rho_of(gram, basis):
    along = torch.diagonal(basis.T @ gram @ basis).sqrt().sum()
    return gram.diagonal().sqrt().sum() / along


def soap(**options):
    def walk(learner):
        own = Soap(**options)
        return joined_walk(learner, lambda _, g: own.direction(g), beta_1=0.95, beta_2=0.95)

    return walk


def fedpac(learner):
    own = Soap(left=LEFT, right=RIGHT)
    towards = join({name: tensor.numpy() for name, tensor in DIRECTION.items()})
    step = lambda _, g: 0.5 * own.direction(g) + 0.5 * towards  # noqa: E731
    return joined_walk(learner, step, beta_1=0.95, beta_2=0.95)


def muon(learner):
    m = [np.zeros((OUTPUTS, INPUTS))]

    def direction(_, g):
        m[0] = 0.95 * m[0] + g
        return np.sqrt(OUTPUTS / INPUTS) * newton_schulz(m[0])

    return apart_walk(learner, direction)


def newton_muon(learner):
    m, inputs = [np.zeros((OUTPUTS, INPUTS))], Inputs()

    def direction(number, g):
        inputs.see(inputs_of(learner, number))
        m[0] = 0.95 * m[0] + g
        return np.sqrt(OUTPUTS / INPUTS) * newton_schulz(m[0] @ np.linalg.inv(inputs.damped(bias=False)))

    return apart_walk(learner, direction)


def foof(learner):
    inputs = Inputs()

    def direction(number, g):
        inputs.see(inputs_of(learner, number))
        return g @ np.linalg.inv(inputs.damped())

    return joined_walk(learner, direction, rest_factor=1e-4)


def fedmuon(learner):
    own = OWN_MOMENTUM[learner].numpy()
    m = [own]

    def direction(_, g):
        m[0] = 0.9 * m[0] + 0.1 * g
        return newton_schulz(m[0] - own + CONTROL.numpy())

    return apart_walk(learner, direction)


def fedmuon_liu(learner):
    m = [MOMENTUM.numpy()]

    def direction(_, g):
        m[0] = 0.95 * m[0] + g
        return 0.5 * newton_schulz(m[0]) + 0.5 * DIRECTION[WEIGHT].numpy()

    return apart_walk(learner, direction)


def fedadamw(learner):
    x = {name: tensor.numpy() for name, tensor in state(100 * learner).items()}
    rest = {name: AdamW(shape, second=SECOND[name], age=7.0) for name, shape in SHAPES.items()}
    for number in numbers_of(learner):
        for name, adam in rest.items():
            direction = adam.direction(gradients_of(learner, number)[name]) + 0.5 * DIRECTION[name].numpy()
            x[name] = moved(x[name], rate_of(number), direction)
    return x


BASES = {"canonical_basis": {WEIGHT: BASIS}, "canonical_stretch": {WEIGHT: torch.tensor(1.5)}}
GRADIENTS = {"gradient_output_gram": {WEIGHT: LEFT}, "gradient_input_gram": {WEIGHT: RIGHT}}
TOWARDS = {"global_direction": DIRECTION}
CASES = {
    "adamw": ("adamw", {}, {}, adamw),
    "canonical": ("canonical", {}, {"broadcast": BASES}, canonical(lambda _: BASIS, lambda _: 1.5)),
    "identity": ("canonical", {"basis": "identity"}, {"broadcast": BASES}, adamw),
    "own": (
        "canonical",
        {"basis": "own"},
        {"broadcast": BASES, "memory": {"own_input_gram": {WEIGHT: GRAMS}}},
        canonical(own_basis, lambda learner: rho_of(GRAMS[learner], own_basis(learner))),
    ),
    "random": (
        "canonical",
        {"basis": "random", "seed": 3},
        {"memory": {"own_input_gram": {WEIGHT: GRAMS}}},
        canonical(lambda _: ROTATION, lambda learner: rho_of(GRAMS[learner], ROTATION)),
    ),
    "own at first": (
        "canonical",
        {"basis": "own", "stretch": False},
        {"grams_at_start": lambda: {WEIGHT: GRAMS}},
        canonical(own_basis, lambda _: 1.0),
    ),
    "soap": ("soap", {}, {}, soap()),
    "soap refreshed": ("soap", {"refresh": 2}, {}, soap(refresh=2)),
    "soap inputs": ("soap", {"sides": "inputs", "refresh": 3}, {}, soap(refresh=3, sides="inputs")),
    "soap outputs": ("soap", {"sides": "outputs", "refresh": 3}, {}, soap(refresh=3, sides="outputs")),
    "muon": ("muon", {}, {}, muon),
    "newton-muon": ("newton-muon", {}, {}, newton_muon),
    "foof": ("foof", {}, {}, foof),
    "fedpac-soap": ("fedpac-soap", {}, {"broadcast": TOWARDS | GRADIENTS}, fedpac),
    "fedmuon": (
        "fedmuon",
        {},
        {
            "broadcast": {"momentum_control": {WEIGHT: CONTROL}},
            "memory": {"fedmuon_momentum": {WEIGHT: OWN_MOMENTUM}},
        },
        fedmuon,
    ),
    "fedmuon-liu": ("fedmuon-liu", {}, {"broadcast": TOWARDS | {"muon_momentum": {WEIGHT: MOMENTUM}}}, fedmuon_liu),
    "fedadamw": (
        "fedadamw",
        {},
        {"broadcast": TOWARDS | {"adam_second_moment": SECOND, "adam_age": {"steps": torch.tensor(7.0)}}},
        fedadamw,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_each_learner_steps_as_the_formula_says(case):
    name, options, given, oracle = CASES[case]
    local = local_round(**given)
    take_steps(create_step(name, **options), local)
    for learner in range(LEARNERS):
        expected = oracle(learner)
        for key, tensor in local.cohort.parameters.items():
            np.testing.assert_allclose(tensor[learner].numpy(), expected[key], rtol=1e-6, atol=1e-8, err_msg=key)


def test_every_step_has_an_oracle():
    assert {name for name, *_ in CASES.values()} == set(available_steps())


@pytest.mark.parametrize("case", CASES)
def test_a_step_taken_up_in_the_middle_goes_on_to_the_bit(case):
    name, options, given, _ = CASES[case]
    whole, first, second = local_round(**given), local_round(**given), local_round(**given)
    take_steps(create_step(name, **options), whole)
    step = create_step(name, **options)
    optimizer = take_steps(step, first, last=3)
    other = create_step(name, **options)
    begun = other.optimizer(second, SETTINGS)
    for key, tensor in second.cohort.parameters.items():
        tensor.copy_(first.cohort.parameters[key])
    begun.load_part_state({key: tensor.clone() for key, tensor in optimizer.part_state().items()})
    other.load_part_state({key: tensor.clone() for key, tensor in step.part_state().items()})
    take_steps(other, second, first=3, optimizer=begun)
    for key, tensor in whole.cohort.parameters.items():
        assert torch.equal(tensor, second.cohort.parameters[key]), key


@pytest.mark.parametrize("case", CASES)
def test_a_learners_state_is_handed_from_part_to_part(case):
    """What `saved` returns of each learner, a fresh optimizer takes up; the learners' inputs are their own affair."""
    name, options, given, _ = CASES[case]
    whole, first, second = local_round(**given), local_round(**given), local_round(**given)
    take_steps(create_step(name, **options), whole, last=4)
    step = create_step(name, **options)
    optimizer = take_steps(step, first, last=2)
    other = create_step(name, **options)
    begun = other.optimizer(second, SETTINGS)
    other.load_part_state({key: tensor.clone() for key, tensor in step.part_state().items()})
    for learner in range(LEARNERS):
        begun.load(learner, optimizer.saved(learner))
    # as the next part does: from where the learner has come to
    for key, tensor in second.cohort.parameters.items():
        tensor.copy_(first.cohort.parameters[key])
    if hasattr(begun, "_own"):  # canonical coordinates are made when it begins
        begun.load_part_state(optimizer.part_state())
    take_steps(other, second, first=2, last=4, optimizer=begun)
    for key, tensor in whole.cohort.parameters.items():
        torch.testing.assert_close(second.cohort.parameters[key], tensor, rtol=1e-9, atol=1e-12)
