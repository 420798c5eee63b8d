"""What a step sends and keeps at the end of a round, and what is measured alongside any step."""

import numpy as np
import pytest
import torch

from fedcmp.aggregation import ClientUpdate
from fedcmp.client.steps import available_steps, create_step
from fedcmp.client.steps.canonical import random_rotation
from fedcmp.client.steps.meters import Meters
from fedcmp.client.steps.muon import newton_schulz
from tests.client.steps.rounds import (
    BIAS,
    INPUTS,
    LEARNERS,
    OUTPUTS,
    SETTINGS,
    SHAPES,
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

BASIS = torch.linalg.qr(draw(84, INPUTS + 1, INPUTS + 1))[0]
MEASURED = ("input_gram", "canonical_second_moment", "path_length")


def ended(step, local, *, with_second_moment=False, last=None):
    """A whole round with its meters."""
    optimizer = step.optimizer(local, SETTINGS)
    meters = Meters(local, optimizer, own=step.sends, beta=SETTINGS.beta_2, with_second_moment=with_second_moment)
    take_steps(step, local, optimizer=optimizer, watch=[meters], **({} if last is None else {"last": last}))
    step.end(local)
    meters.end(local)
    return optimizer, meters


def moments_of(learner, turned):
    second, count = 0.0, 0
    for number in numbers_of(learner):
        second, count = 0.99 * second + 0.01 * turned(gradients_of(learner, number)) ** 2, count + 1
    return second / (1 - 0.99**count)


@pytest.mark.parametrize("name", available_steps())
def test_what_a_server_may_read_of_any_step(name):
    """Gram matrices, second moments in the broadcast basis, and the sum of the rates."""
    local = local_round(broadcast={"canonical_basis": {WEIGHT: BASIS}}, asked=MEASURED)
    _, meters = ended(create_step(name), local, with_second_moment=True)
    for learner in range(LEARNERS):
        fed = np.concatenate([inputs_of(learner, number) for number in numbers_of(learner)])
        path = sum(rate_of(number) for number in numbers_of(learner))
        assert float(local.extras["path_length"]["rates"][learner]) == pytest.approx(path, rel=1e-6)
        if name != "foof":  # which sends what it divided by
            gram = local.extras["input_gram"][WEIGHT][learner].numpy()
            np.testing.assert_allclose(gram, fed.T @ fed / len(fed), rtol=1e-6)
        turned = lambda g: np.concatenate([g[WEIGHT], g[BIAS][:, None]], 1) @ BASIS.numpy()  # noqa: E731
        moment = local.extras["canonical_second_moment"][WEIGHT][learner].numpy()
        np.testing.assert_allclose(moment, moments_of(learner, turned), rtol=1e-6)
        for key, plain in meters.second_moments(local).items():
            np.testing.assert_allclose(plain[learner].numpy(), moments_of(learner, lambda g, k=key: g[k]), rtol=1e-6)


@pytest.mark.parametrize("name", available_steps())
def test_nothing_is_sent_that_is_not_asked_for(name):
    local = local_round()
    ended(create_step(name), local)
    assert local.extras == {}


@pytest.mark.parametrize("name", available_steps())
def test_what_its_services_read_is_sent_in_their_shapes_whether_it_stepped_or_not(name):
    for last in (None, 0):
        services = create_step(name).services()
        local = local_round(asked={label for service in services for label in service.extras})
        ended(create_step(name), local, last=last)
        for service in services:
            for learner in range(LEARNERS):
                extra = {
                    label: {key: tensor[learner] for key, tensor in named.items()}
                    for label, named in local.extras.items()
                }
                if last == 0 and "input_gram" in extra:
                    continue  # nothing was fed in this test, so no mean is known
                sums = service.zeros(state(0))
                service.fold("client 0", update_of(extra), state(0), sums)


def update_of(extra):
    return ClientUpdate(state=state(5), num_examples=3, extra=extra)


def test_fedpm_sends_what_it_divided_by_in_its_last_step():
    local = local_round(asked=["input_gram"])
    ended(create_step("foof", damping=0.2, decay=0.5), local)
    for learner in range(LEARNERS):
        c, seen = 0.0, 0
        for number in numbers_of(learner):
            x = inputs_of(learner, number)
            c, seen = 0.5 * c + 0.5 * x.T @ x / len(x), seen + 1
        c = c / (1 - 0.5**seen)
        expected = c + 0.2 * np.trace(c) / len(c) * np.eye(len(c))
        np.testing.assert_allclose(local.extras["input_gram"][WEIGHT][learner].numpy(), expected, rtol=1e-9)


def test_fedmuon_keeps_its_momentum_and_sends_how_its_variate_changed():
    own = draw(80, LEARNERS, OUTPUTS, INPUTS)
    local = local_round(memory={"fedmuon_momentum": {WEIGHT: own}}, asked=["momentum_control_change"])
    ended(create_step("fedmuon", alpha=0.25), local)
    for learner in range(LEARNERS):
        m = own[learner].numpy()
        for number in numbers_of(learner):
            m = 0.75 * m + 0.25 * gradients_of(learner, number)[WEIGHT]
        np.testing.assert_allclose(local.memory["fedmuon_momentum"][WEIGHT][learner].numpy(), m, rtol=1e-9)
        change = local.extras["momentum_control_change"][WEIGHT][learner].numpy()
        np.testing.assert_allclose(change, m - own[learner].numpy(), rtol=1e-9)


def test_fedadamw_sends_its_second_moment_and_age():
    sent = {"adam_second_moment": {name: tensor.square() for name, tensor in state(9).items()}}
    sent["adam_age"] = {"steps": torch.tensor(7.0)}
    local = local_round(broadcast=sent, asked=["adam_second_moment", "adam_age"])
    ended(create_step("fedadamw"), local)
    for learner in range(LEARNERS):
        assert float(local.extras["adam_age"]["steps"][learner]) == 7 + len(numbers_of(learner))
        for name in SHAPES:
            second = sent["adam_second_moment"][name].numpy()
            for number in numbers_of(learner):
                second = 0.99 * second + 0.01 * gradients_of(learner, number)[name] ** 2
            np.testing.assert_allclose(local.extras["adam_second_moment"][name][learner].numpy(), second, rtol=1e-9)


def test_a_learner_keeps_its_own_second_moment_of_inputs_for_its_next_basis():
    grams = torch.stack([draw(50 + k, INPUTS + 1, 9) @ draw(50 + k, INPUTS + 1, 9).T for k in range(LEARNERS)])
    local = local_round(grams_at_start=lambda: {WEIGHT: grams})
    ended(create_step("canonical", basis="own"), local)
    fed = np.concatenate([inputs_of(1, number) for number in numbers_of(1)])
    np.testing.assert_allclose(local.memory["own_input_gram"][WEIGHT][1].numpy(), fed.T @ fed / len(fed), rtol=1e-6)
    # a learner that was not there before has zeros in its place, and is measured
    kept = grams.clone()
    kept[1] = 0
    local = local_round(memory={"own_input_gram": {WEIGHT: kept}}, grams_at_start=lambda: {WEIGHT: 2 * grams})
    optimizer = create_step("canonical", basis="own").optimizer(local, SETTINGS)
    bases = optimizer._basis[WEIGHT]
    for learner in range(LEARNERS):
        turned = bases[learner].T @ grams[learner] @ bases[learner]
        assert torch.allclose(turned, torch.diag(turned.diagonal()), atol=1e-8)


def test_a_random_rotation_is_orthogonal_and_the_seeds():
    rotation = random_rotation(6, seed=3, name="a")
    assert torch.allclose(rotation @ rotation.T, torch.eye(6, dtype=torch.float64), atol=1e-12)
    assert torch.equal(rotation, random_rotation(6, seed=3, name="a"))
    for other in (random_rotation(6, seed=4, name="a"), random_rotation(6, seed=3, name="b")):
        assert not torch.allclose(rotation, other)


@pytest.mark.parametrize("shape", [(4, 4), (6, 3), (3, 6)])
def test_newton_schulz_comes_near_the_polar_factor(shape):
    matrix = draw(1, 2, *shape) + 2 * torch.eye(*shape, dtype=torch.float64)
    values = torch.linalg.svdvals(newton_schulz(matrix, iterations=5))
    assert bool((values > 0.6).all() and (values < 1.3).all())
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    turned = left.mT @ newton_schulz(matrix, iterations=5) @ right.mT
    assert torch.allclose(turned, torch.diag_embed(turned.diagonal(dim1=-2, dim2=-1)), atol=1e-8)
    assert not newton_schulz(0 * matrix, iterations=5).any()


@pytest.mark.parametrize("name", ["soap", "foof", "newton-muon", "muon"])
def test_a_learner_that_diverges_has_no_numbers_and_stops_nobody(name):
    """Its update is refused by the server, in words; the others step as without it."""

    def spoil(gradients, learners, rates):
        del rates
        gradients[WEIGHT][learners == 1] = torch.nan

    local, alone = local_round(), local_round()
    for where, spoiled in ((local, True), (alone, False)):
        step = create_step(name)
        optimizer = step.optimizer(where, SETTINGS)
        if spoiled:
            optimizer.watchers.append(spoil)
        take_steps(step, where, optimizer=optimizer, last=2)
    assert bool(local.cohort.parameters[WEIGHT][1].isnan().any())
    for key, tensor in alone.cohort.parameters.items():
        assert torch.equal(tensor[[0, 2]], local.cohort.parameters[key][[0, 2]])


@pytest.mark.parametrize(
    ("label", "name", "said"),
    [
        ("global_direction", "fedpac-soap", "global_direction of layer.weight is"),
        ("gradient_input_gram", "fedpac-soap", "gradient_input_gram of layer.weight is"),
        ("momentum_control", "fedmuon", "momentum_control of layer.weight is"),
        ("muon_momentum", "fedmuon-liu", "muon_momentum of layer.weight is"),
        ("adam_second_moment", "fedadamw", "adam_second_moment of layer.weight is"),
        ("adam_age", "fedadamw", "adam_age of steps is missing"),
    ],
)
def test_a_broadcast_of_another_form_is_refused(label, name, said):
    local = local_round(broadcast={label: {WEIGHT: torch.zeros(1, 1)}})
    with pytest.raises(ValueError, match=said):
        create_step(name).optimizer(local, SETTINGS)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("soap", {"refresh": 0}, "refresh = 0"),
        ("soap", {"refresh": 1.5}, "refresh = 1.5: must be a whole number"),
        ("soap", {"sides": "left"}, "sides = 'left'"),
        ("muon", {"momentum": 1.0}, "momentum = 1.0"),
        ("foof", {"damping": 0}, "damping = 0"),
        ("newton-muon", {"decay": 1}, "decay = 1"),
        ("fedmuon", {"alpha": 0}, "alpha = 0"),
        ("fedmuon", {"total_clients": 0}, "total_clients = 0"),
        ("fedpac-soap", {"mixing": 2}, "mixing = 2"),
        ("canonical", {"basis": "theirs"}, "basis = 'theirs'"),
        ("canonical", {"stretch": "no"}, "stretch = 'no'"),
        ("adamw", {"momentum": 1}, "step 'adamw' has no option 'momentum'; it takes no options"),
    ],
)
def test_options_are_refused_by_name(name, options, said):
    with pytest.raises(ValueError, match=said):
        create_step(name, **options)
