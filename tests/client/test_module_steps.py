"""Steps on a module of one's own: PyTorch's AdamW, the canonical step written again, what is sent and what refused."""

import numpy as np
import pytest
import torch
from torch import nn

from fedcmp.client.module_steps import ModuleSteps
from fedcmp.client.optimizer import Optimisation
from fedcmp.errors import UserError

SETTINGS = Optimisation(beta_1=0.8, beta_2=0.95, weight_decay=0.1, max_gradient_norm=0.5)


def make_model(dtype=torch.float32):
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.LayerNorm(3), nn.Linear(3, 2, bias=False)).to(dtype)


def batches(count=5):
    generator = torch.Generator().manual_seed(2)
    return [torch.randn(6, 4, generator=generator) for _ in range(count)]


def train(model, optimizer, *, clip=None, schedule=None):
    for batch in batches():
        optimizer.zero_grad()
        model(batch.to(next(model.parameters()).dtype)).square().mean().backward()
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        if schedule:
            schedule.step()
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def rotation(size, seed):
    return torch.linalg.qr(torch.randn(size, size, generator=torch.Generator().manual_seed(seed)))[0]


BROADCAST = {
    "canonical_basis": {"0.weight": rotation(5, 1), "3.weight": rotation(3, 2)},
    "canonical_stretch": {"0.weight": torch.tensor(1.5), "3.weight": torch.tensor(1.25)},
}


def test_plain_steps_are_pytorchs_adamw_with_a_scheduler():
    results = []
    for ours in (True, False):
        model = make_model()
        if ours:
            optimizer = ModuleSteps(model, lr=0.05, settings=SETTINGS)
        else:
            optimizer = torch.optim.AdamW(model.parameters(), lr=0.05, betas=(0.8, 0.95), weight_decay=0.1)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.7)
        results.append(train(model, optimizer, clip=None if ours else 0.5, schedule=schedule))
    for name, tensor in results[0].items():
        assert torch.allclose(tensor, results[1][name], rtol=1e-5, atol=1e-6)
        assert not torch.equal(tensor, make_model().state_dict()[name])


def test_canonical_steps_follow_the_formula():
    """In NumPy, for the matrix without a bias: R = G V, AdamW on R, X <- X - rate rho step V^T."""
    torch.manual_seed(4)
    model = nn.Sequential(nn.Linear(3, 2, bias=False))
    basis, rho, rate = rotation(3, 5), 1.5, 0.05
    broadcast = {"canonical_basis": {"0.weight": basis}, "canonical_stretch": {"0.weight": torch.tensor(rho)}}
    steps = ModuleSteps(
        model, lr=rate, settings=Optimisation(max_gradient_norm=1e9), step="canonical", broadcast=broadcast
    )
    x, v = model[0].weight.detach().double().numpy().copy(), basis.double().numpy()
    first, second, gram, tokens = np.zeros((2, 3)), np.zeros((2, 3)), np.zeros((3, 3)), 0
    for number, batch in enumerate(batches(), start=1):
        inputs = batch[:, :3].double().numpy()
        rotated = (2 * (inputs @ x.T) / (2 * len(inputs))).T @ inputs @ v
        first, second = 0.9 * first + 0.1 * rotated, 0.99 * second + 0.01 * rotated**2
        step = (first / (1 - 0.9**number)) / (np.sqrt(second / (1 - 0.99**number)) + 1e-8)
        x = x - rate * rho * step @ v.T
        gram, tokens = gram + inputs.T @ inputs, tokens + len(inputs)
        steps.zero_grad()
        model(batch[:, :3]).square().mean().backward()
        steps.step()
    extras = steps.extras()
    assert np.allclose(model[0].weight.detach().numpy(), x, rtol=1e-4, atol=1e-5)
    assert np.allclose(extras["input_gram"]["0.weight"].numpy(), gram / tokens, rtol=1e-5)
    assert np.allclose(
        extras["canonical_second_moment"]["0.weight"].numpy(), second / (1 - 0.99 ** len(batches())), rtol=1e-4
    )


def test_the_identity_as_basis_is_plain_training_and_the_bias_is_a_column():
    identity = {"canonical_basis": {"0.weight": torch.eye(5), "3.weight": torch.eye(3)}}
    models = [make_model(), make_model()]
    plain = train(models[0], ModuleSteps(models[0], lr=0.05, settings=SETTINGS))
    steps = ModuleSteps(models[1], lr=0.05, settings=SETTINGS, step="canonical", broadcast=identity)
    turned = train(models[1], steps)
    for name, tensor in plain.items():
        assert torch.allclose(tensor, turned[name], rtol=1e-5, atol=1e-6)
    gram = steps.extras()["input_gram"]
    inputs = torch.cat([torch.cat(batches()), torch.ones(30, 1)], dim=1)
    assert torch.allclose(gram["0.weight"], inputs.T @ inputs / 30, rtol=1e-5, atol=1e-6)
    assert gram["3.weight"].shape == (3, 3)
    assert steps.extras()["canonical_second_moment"]["0.weight"].shape == (3, 5)


def test_tokens_of_a_sequence_count_each_and_evaluation_counts_nothing():
    model = make_model()
    steps = ModuleSteps(model, lr=0.1, step="canonical", measure_only=True)
    model(torch.stack(batches(2)))
    model.eval()
    model(100 * batches()[0])
    inputs = torch.cat([torch.cat(batches(2)), torch.ones(12, 1)], dim=1)
    assert torch.allclose(steps.extras()["input_gram"]["0.weight"], inputs.T @ inputs / 12, rtol=1e-5)
    steps.close()
    model.train()
    model(100 * batches()[0])
    assert torch.allclose(steps.extras()["input_gram"]["0.weight"], inputs.T @ inputs / 12, rtol=1e-5)


def test_measuring_changes_no_bit():
    model = make_model()
    steps = ModuleSteps(model, lr=0.1, step="canonical", broadcast=BROADCAST, measure_only=True)
    after = train(model, steps)
    assert all(torch.equal(after[name], tensor) for name, tensor in make_model().state_dict().items())
    assert all(not moment.any() for moment in steps.extras()["canonical_second_moment"].values())


def test_bfloat16_parameters_gather_steps_that_are_too_small_for_them():
    model = make_model(torch.bfloat16)
    before = model[0].weight.detach().clone()
    steps = ModuleSteps(model, lr=3e-4, settings=Optimisation())
    moved = [False]
    for _ in range(4):
        train(model, steps)
        moved.append(not torch.equal(before, model[0].weight))
    assert moved[-1]
    assert model[0].weight.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("change", "options", "said"),
    [
        (lambda m: m, {"step": "soap"}, "step 'soap': a training loop of your own"),
        (
            lambda m: m[0].weight.requires_grad_(False),
            {"step": "canonical"},
            "0.weight travels but is not trained",
        ),
        (lambda m: m.append(nn.Embedding(4, 2)), {"step": "canonical"}, "4.weight belongs to Embedding"),
        (lambda m: m.requires_grad_(False), {}, "none of the tensors that travel is a trained parameter"),
        (lambda m: m, {"names": ["x"]}, "none of the tensors that travel is a trained parameter"),
        (
            lambda m: m,
            {"step": "canonical", "broadcast": {"canonical_basis": {"0.weight": torch.eye(4)}}},
            "canonical basis of 0.weight is",
        ),
    ],
)
def test_what_cannot_be_trained_so_is_refused_by_name(change, options, said):
    model = make_model()
    change(model)
    with pytest.raises(UserError) as caught:
        ModuleSteps(model, lr=0.1, **options)
    assert said in str(caught.value)


def test_a_layer_that_is_never_called_is_named():
    steps = ModuleSteps(make_model(), lr=0.1, step="canonical")
    with pytest.raises(UserError, match=r"0\.weight: its layer was never called in training mode"):
        steps.extras()


def test_only_the_tensors_that_travel_are_trained():
    model = make_model()
    after = train(model, ModuleSteps(model, lr=0.1, step="canonical", names=["3.weight"]))
    before = make_model().state_dict()
    assert [name for name in after if not torch.equal(after[name], before[name])] == ["3.weight"]
