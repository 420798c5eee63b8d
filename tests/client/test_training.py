import numpy as np
import pytest
import torch

from fedcmp.client.optimizer import Optimisation
from fedcmp.client.parts import Part
from fedcmp.model.projector import Projector
from tests.client.conftest import part_of, plain_loop, start
from tests.client.one_part import train_part


def test_it_equals_a_plain_training_loop(vlm, pairs):
    """AdamW, clipping and the token mean, by torch's own optimiser and one sample at a time."""
    part = part_of(range(12))
    trained = train_part(vlm, pairs, part, start(vlm), Optimisation(max_gradient_norm=0.05))
    expected = plain_loop(vlm, pairs, part, max_norm=0.05)
    for name, tensor in expected.items():
        torch.testing.assert_close(trained.update.state[name], tensor, rtol=1e-3, atol=1e-5)


def test_only_the_projector_learns(vlm, pairs):
    before = {name: p.clone() for name, p in vlm.language.model.named_parameters()}
    trained = train_part(vlm, pairs, part_of(range(8)), start(vlm), Optimisation())
    assert all(torch.equal(p, before[name]) for name, p in vlm.language.model.named_parameters())
    assert any(not torch.equal(trained.update.state[n], t) for n, t in start(vlm).items())


def test_what_is_sent(vlm, pairs):
    trained = train_part(vlm, pairs, part_of(range(10)), start(vlm), Optimisation(), with_second_moment=True)
    assert trained.update.num_examples == 10
    assert trained.update.second_moment is not None
    assert trained.update.second_moment.keys() == trained.update.state.keys()
    assert all((v >= 0).all() for v in trained.update.second_moment.values())
    change = sum(((trained.update.state[n] - t) ** 2).sum() for n, t in start(vlm).items()).sqrt().item()
    assert trained.change == pytest.approx(change, rel=1e-5)


def test_second_moment_is_bias_corrected(vlm, pairs):
    """After one step it is the squared gradient itself."""
    part = part_of(range(4))
    trained = train_part(vlm, pairs, part, start(vlm), Optimisation(max_gradient_norm=1e9), with_second_moment=True)
    vlm.trainable.load_state_dict(start(vlm))
    vlm.trainable.zero_grad()
    batch = pairs.batch(part.batches[0])
    vlm.caption_losses(batch.features, batch.ids, batch.lengths).mean().backward()
    for name, parameter in vlm.trainable.named_parameters():
        torch.testing.assert_close(trained.update.second_moment[name], parameter.grad**2, rtol=1e-4, atol=1e-12)


def test_alignment_error_is_measured_after_training_over_all_pairs(vlm, pairs):
    trained = train_part(vlm, pairs, part_of(range(10)), start(vlm), Optimisation())
    projector = Projector(12, vlm.language.width)
    projector.load_state_dict(trained.update.state)
    errors = []
    for position in range(10):
        visual = projector(pairs.features.stored[position]).mean(0).detach().numpy()
        table = vlm.language.embedding.weight.numpy()
        text = table[pairs.tokens[position]].mean(0)
        errors.append(1 - visual @ text / np.linalg.norm(visual) / np.linalg.norm(text))
    assert trained.update.alignment_error == pytest.approx(float(np.mean(errors)), abs=1e-5)


def test_two_parts_with_a_kept_optimiser_equal_one(vlm, pairs):
    whole = train_part(vlm, pairs, part_of(range(16)), start(vlm), Optimisation())
    first = train_part(vlm, pairs, part_of(range(8)), start(vlm), Optimisation())
    second = train_part(
        vlm, pairs, part_of(range(8, 16)), first.update.state, Optimisation(), optimizer_state=first.optimizer
    )
    assert all(torch.equal(second.update.state[n], t) for n, t in whole.update.state.items())
    assert first.losses + second.losses == whole.losses


def test_swapped_captions_are_what_is_learned(vlm, pairs):
    told = part_of([0], size=1, swapped={0: 5})
    trained = train_part(vlm, pairs, told, start(vlm), Optimisation())
    vlm.trainable.load_state_dict(start(vlm))
    row = torch.tensor([pairs.tokens[5]])
    loss = vlm.caption_losses(pairs.features.stored[:1], row, torch.tensor([row.shape[1]])).mean().item()
    assert trained.losses[0] == pytest.approx(loss, rel=1e-5)


def test_an_empty_part_is_refused(vlm, pairs):
    with pytest.raises(ValueError, match="without pairs"):
        train_part(vlm, pairs, Part([], [], {}), start(vlm), Optimisation())
