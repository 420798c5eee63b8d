"""The stacked AdamW against torch's, one learner at a time."""

import pytest
import torch

from fedcmp.client.optimizer import Optimisation, StackedAdamW

SHAPES = {"weight": (3, 4), "bias": (3,)}


def draw(learners, generator):
    return {name: torch.randn(learners, *shape, generator=generator) for name, shape in SHAPES.items()}


def copied(gradients):
    """A step uses up what it is given."""
    return {name: gradient.clone() for name, gradient in gradients.items()}


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_every_learner_steps_as_torch_would(weight_decay):
    generator = torch.Generator().manual_seed(1)
    settings = Optimisation(weight_decay=weight_decay, max_gradient_norm=1.0)
    stacked = draw(3, generator)
    alone = [[torch.nn.Parameter(t[c].clone()) for t in stacked.values()] for c in range(3)]
    optimizers = [torch.optim.AdamW(own, lr=1.0, betas=(0.9, 0.99), weight_decay=weight_decay) for own in alone]
    ours = StackedAdamW(stacked, settings)
    for step in range(6):
        learners = [0, 1, 2] if step % 2 else [0, 2]  # learner 1 skips every other step
        gradients = draw(len(learners), generator)
        rates = [0.01 * (learner + 1) / (step + 1) for learner in learners]
        ours.step(copied(gradients), torch.tensor(learners), torch.tensor(rates))
        for row, (learner, rate) in enumerate(zip(learners, rates, strict=True)):
            optimizers[learner].param_groups[0]["lr"] = rate
            for parameter, gradient in zip(alone[learner], gradients.values(), strict=True):
                parameter.grad = gradient[row].clone()
            torch.nn.utils.clip_grad_norm_(alone[learner], 1.0)
            optimizers[learner].step()
    for learner in range(3):
        for parameter, name in zip(alone[learner], SHAPES, strict=True):
            torch.testing.assert_close(stacked[name][learner], parameter.detach(), rtol=1e-5, atol=1e-6)
            state = optimizers[learner].state[parameter]
            saved = ours.saved(learner)
            torch.testing.assert_close(saved[f"exp_avg.{name}"], state["exp_avg"], rtol=1e-5, atol=1e-7)
            torch.testing.assert_close(saved[f"exp_avg_sq.{name}"], state["exp_avg_sq"], rtol=1e-5, atol=1e-7)
            assert float(saved[f"step.{name}"]) == float(state["step"])


def test_a_loaded_state_goes_on_bit_for_bit():
    generator = torch.Generator().manual_seed(2)
    whole = draw(2, generator)
    first = {name: tensor.clone() for name, tensor in whole.items()}
    gradients = [draw(2, generator) for _ in range(4)]
    everyone, rates = torch.arange(2), torch.tensor([0.1, 0.2])
    uninterrupted, begun = StackedAdamW(whole, Optimisation()), StackedAdamW(first, Optimisation())
    for each in gradients:
        uninterrupted.step(copied(each), everyone, rates)
    for each in gradients[:2]:
        begun.step(copied(each), everyone, rates)
    resumed = StackedAdamW(first, Optimisation())
    for learner in range(2):
        resumed.load(learner, begun.saved(learner))
    for each in gradients[2:]:
        resumed.step(copied(each), everyone, rates)
    assert all(torch.equal(first[name], whole[name]) for name in whole)
