"""Canonical steps against torch's AdamW on the rotated matrices."""

import numpy as np
import pytest
import torch

from fedcmp.client.optimizer import Optimisation
from fedcmp.client.parts import Learner
from fedcmp.client.steps import create_step
from fedcmp.client.training import train_cohort
from fedcmp.model.projector import Projector
from tests.client.conftest import VISION_WIDTH, part_of, plain_loop, plain_loss, start

ASKED = ("canonical_second_moment", "input_gram")
LAYERS = ("linear_1", "linear_2")
PARTS = (part_of(range(12), rate=2e-2), part_of(range(12, 22)))


def rotations(vlm):
    generator = torch.Generator().manual_seed(4)
    sizes = {"linear_1.weight": VISION_WIDTH + 1, "linear_2.weight": vlm.language.width + 1}
    return {name: torch.linalg.qr(torch.randn(n, n, generator=generator))[0] for name, n in sizes.items()}


def joined(tensors, layer):
    return torch.cat([tensors[f"{layer}.weight"], tensors[f"{layer}.bias"][:, None]], 1)


def rotated_loop(vlm, pairs, part, basis, stretches=(1.0, 1.0)):
    """AdamW on Y, the projector being Y V^T: the same steps by another route; also second moments and input Grams."""
    begin = start(vlm)
    coordinates = [torch.nn.Parameter(joined(begin, layer) @ basis[f"{layer}.weight"]) for layer in LAYERS]
    groups = [{"params": [own]} for own in coordinates]
    optimizer = torch.optim.AdamW(groups, lr=1.0, betas=(0.9, 0.99), weight_decay=0)
    projector = Projector(VISION_WIDTH, vlm.language.width)
    grams, tokens = [0.0, 0.0], 0

    def tensors():
        out = {}
        for layer, own in zip(LAYERS, coordinates, strict=True):
            matrix = own @ basis[f"{layer}.weight"].T
            out |= {f"{layer}.weight": matrix[:, :-1], f"{layer}.bias": matrix[:, -1]}
        return out

    for positions, rate in zip(part.batches, part.rates, strict=True):
        for group, stretch in zip(optimizer.param_groups, stretches, strict=True):
            group["lr"] = rate * stretch
        optimizer.zero_grad()
        current = tensors()
        loss = plain_loss(vlm, pairs, lambda x, t=current: torch.func.functional_call(projector, t, (x,)), positions)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(coordinates, 1.0)
        for position in positions.tolist():
            for x in pairs.features.stored[position]:
                hidden = torch.nn.functional.gelu(current["linear_1.weight"] @ x + current["linear_1.bias"]).detach()
                for i, fed in enumerate((x, hidden)):
                    column = torch.cat([fed, torch.ones(1)])
                    grams[i] = grams[i] + torch.outer(column, column)
                tokens += 1
        optimizer.step()
    steps = len(part.batches)
    moments = [optimizer.state[own]["exp_avg_sq"] / (1 - 0.99**steps) for own in coordinates]
    return tensors(), moments, [gram / tokens for gram in grams]


@pytest.mark.parametrize(("options", "stretches"), [({}, (1.5, 0.5)), ({"stretch": False}, (1.0, 1.0))])
def test_steps_moments_and_grams(vlm, pairs, options, stretches):
    basis = rotations(vlm)
    learners = [Learner(part, start(vlm)) for part in PARTS]
    sent = {"linear_1.weight": torch.tensor(1.5), "linear_2.weight": torch.tensor(0.5)}
    broadcast = {"canonical_basis": basis, "canonical_stretch": sent}
    together = train_cohort(
        vlm,
        pairs,
        learners,
        Optimisation(),
        step=create_step("canonical", **options),
        broadcast=broadcast,
        asked=ASKED,
    )
    for part, trained in zip(PARTS, together, strict=True):
        expected, moments, grams = rotated_loop(vlm, pairs, part, basis, stretches)
        for name, tensor in expected.items():
            torch.testing.assert_close(trained.update.state[name], tensor.detach(), rtol=2e-3, atol=3e-4)
        for i, layer in enumerate(LAYERS):
            extra = trained.update.extra
            sent = extra["canonical_second_moment"][f"{layer}.weight"]
            torch.testing.assert_close(sent, moments[i], rtol=2e-2, atol=1e-6)
            torch.testing.assert_close(extra["input_gram"][f"{layer}.weight"], grams[i], rtol=1e-3, atol=1e-4)


def test_an_opening_round_only_measures(vlm, pairs):
    learners = [Learner(part, start(vlm)) for part in PARTS]
    step = create_step("canonical")
    opened = train_cohort(vlm, pairs, learners, Optimisation(), step=step, asked=ASKED, measure_only=True)
    for part, trained in zip(PARTS, opened, strict=True):
        assert all(torch.equal(trained.update.state[name], tensor) for name, tensor in start(vlm).items())
        assert trained.losses == []
        assert trained.update.num_examples == sum(map(len, part.batches))
        shown = pairs.features.stored[np.concatenate(part.batches)].flatten(0, 1)
        fed = torch.cat([shown, torch.ones(len(shown), 1)], 1)
        gram = trained.update.extra["input_gram"]["linear_1.weight"]
        torch.testing.assert_close(gram, fed.T @ fed / len(fed), rtol=1e-4, atol=1e-5)
        assert not trained.update.extra["canonical_second_moment"]["linear_1.weight"].any()


def test_without_a_basis_it_is_plain_training(vlm, pairs):
    learner = Learner(PARTS[0], start(vlm))
    (trained,) = train_cohort(vlm, pairs, [learner], Optimisation(), step=create_step("canonical"))
    for name, tensor in plain_loop(vlm, pairs, PARTS[0]).items():
        torch.testing.assert_close(trained.update.state[name], tensor, rtol=2e-3, atol=3e-4)


def test_a_basis_of_another_size_is_refused(vlm, pairs):
    broadcast = {"canonical_basis": {"linear_1.weight": torch.eye(3)}}
    with pytest.raises(ValueError, match=r"linear_1\.weight is \(3, 3\); it must be \(13, 13\)"):
        train_cohort(
            vlm,
            pairs,
            [Learner(PARTS[0], start(vlm))],
            Optimisation(),
            step=create_step("canonical"),
            broadcast=broadcast,
        )
