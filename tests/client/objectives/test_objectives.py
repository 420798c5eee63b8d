"""Each objective against a loop that is written again from its paper's formula."""

import pytest
import torch

from fedcmp.client.objectives import create_objective
from fedcmp.client.optimizer import Optimisation
from fedcmp.client.parts import Learner
from fedcmp.client.training import train_cohort
from fedcmp.model.projector import Projector
from tests.client.conftest import VISION_WIDTH, part_of, plain_loop, plain_loss, start

PART = part_of(range(12), rate=2e-2)


def ours(vlm, pairs, objective, *, memory=None, broadcast=None, part=PART):
    learner = Learner(part, start(vlm), memory=memory)
    return train_cohort(vlm, pairs, [learner], Optimisation(), objective=objective, broadcast=broadcast)[0]


def assert_same(trained, expected):
    """Equal up to rounding, which AdamW magnifies where a gradient is nearly zero: a few entries may differ more."""
    for name, tensor in expected.items():
        found = trained.update.state[name]
        torch.testing.assert_close(found, tensor, rtol=2e-2, atol=5e-4)
        far = ~torch.isclose(found, tensor, rtol=2e-3, atol=2e-5)
        assert far.float().mean() < 1e-3


def projector_of(state):
    projector = Projector(VISION_WIDTH, state["linear_1.weight"].shape[0])
    projector.load_state_dict(state)
    return projector


def test_fedprox_squares_the_distance(vlm, pairs):
    origin = list(start(vlm).values())

    def penalty(projector, _positions):
        return 5.0 / 2 * sum(((p - o) ** 2).sum() for p, o in zip(projector.parameters(), origin, strict=True))

    expected = plain_loop(vlm, pairs, PART, penalty=penalty)
    assert_same(ours(vlm, pairs, create_objective("fedprox", mu=5.0)), expected)
    plain = plain_loop(vlm, pairs, PART)
    assert any(not torch.allclose(plain[n], expected[n], atol=1e-3) for n in plain)


def test_moon_contrasts_with_the_global_and_the_last_projector(vlm, pairs):
    last = start(vlm, 21)
    global_projector, last_projector = projector_of(start(vlm)), projector_of(last)

    def penalty(projector, positions):
        total = torch.zeros(())
        for position in positions.tolist():
            features = pairs.features.stored[position]
            own, near, far = (p(features).mean(0) for p in (projector, global_projector, last_projector))
            a = torch.exp(torch.cosine_similarity(own, near.detach(), dim=0) / 0.5)
            b = torch.exp(torch.cosine_similarity(own, far.detach(), dim=0) / 0.5)
            total = total - torch.log(a / (a + b))
        return 3.0 * total / len(positions)

    expected = plain_loop(vlm, pairs, PART, penalty=penalty)
    objective = create_objective("moon", mu=3.0, temperature=0.5)
    trained = ours(vlm, pairs, objective, memory={"last_projector": last})
    assert_same(trained, expected)
    assert all(torch.equal(trained.memory["last_projector"][n], t) for n, t in trained.update.state.items())


def test_moon_has_no_term_in_a_clients_first_round(vlm, pairs):
    assert_same(ours(vlm, pairs, create_objective("moon", mu=3.0)), plain_loop(vlm, pairs, PART))


def test_scaffold_corrects_by_its_control_variates(vlm, pairs):
    own = {name: 0.02 * t for name, t in start(vlm, 31).items()}
    sent = {name: 0.02 * t for name, t in start(vlm, 32).items()}

    def gradients(projector, _loss_of):
        return [parameter.grad + sent[name] - own[name] for name, parameter in projector.named_parameters()]

    expected = plain_loop(vlm, pairs, PART, gradients=gradients)
    trained = ours(vlm, pairs, create_objective("scaffold"), memory={"control": own}, broadcast={"control": sent})
    assert_same(trained, expected)
    projector = projector_of(start(vlm))  # option I: the mean gradient at the global projector
    sum(plain_loss(vlm, pairs, projector, positions) for positions in PART.batches).backward()
    for name, parameter in projector.named_parameters():
        mean = parameter.grad / len(PART.batches)
        torch.testing.assert_close(trained.memory["control"][name], mean, rtol=1e-3, atol=1e-6)
        change = trained.update.extra["control_change"][name]
        torch.testing.assert_close(change, mean - own[name], rtol=1e-3, atol=1e-6)


def test_fedsam_steps_by_the_gradient_at_the_worst_point_near_by(vlm, pairs):
    def gradients(projector, loss_of):
        parameters = list(projector.parameters())
        norm = torch.sqrt(sum((p.grad**2).sum() for p in parameters))
        offsets = [0.3 * p.grad / norm for p in parameters]
        with torch.no_grad():
            for parameter, offset in zip(parameters, offsets, strict=True):
                parameter.add_(offset)
        projector.zero_grad()
        loss_of().backward()
        with torch.no_grad():
            for parameter, offset in zip(parameters, offsets, strict=True):
                parameter.sub_(offset)
        return [p.grad for p in parameters]

    expected = plain_loop(vlm, pairs, PART, gradients=gradients)
    assert_same(ours(vlm, pairs, create_objective("fedsam", rho=0.3)), expected)


def test_fedswa_lowers_the_rate_within_the_round(vlm, pairs):
    rates = [0.02 * (1 - i / 3) + 0.02 * 0.1 * i / 3 for i in range(3)]
    expected = plain_loop(vlm, pairs, PART, rates=rates)
    assert_same(ours(vlm, pairs, create_objective("fedswa", rho=0.1)), expected)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("fedprox", {"mu": 0}, "mu = 0"),
        ("fedprox", {"mu": "1"}, "mu = '1'"),
        ("moon", {"temperature": -1.0}, "temperature"),
        ("fedsam", {"rho": float("inf")}, "rho"),
        ("fedswa", {"rho": 2.0}, "at most 1"),
        ("fedprox", {"nu": 1.0}, "no option 'nu'"),
        ("plain", {"mu": 1.0}, "takes no options"),
        ("fedprocks", {}, "did you mean 'fedprox'"),
    ],
)
def test_bad_options_are_named(name, options, message):
    with pytest.raises(ValueError, match=message):
        create_objective(name, **options)
