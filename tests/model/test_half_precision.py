import pytest
import torch

from fedcmp.model.half_precision import ATTENTION, prefers_bfloat16, step_seconds
from fedcmp.model.language import LanguageModel


def captions(count=4, length=9):
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(4, 180, (count, length), generator=generator)
    visual = torch.randn(count, 16, 128, generator=generator) * 0.1
    return visual, ids, torch.tensor([length, 3, 5, length])


def gradient(language, visual, ids, lengths):
    visual = visual.clone().requires_grad_()
    loss = language.caption_losses(visual, ids, lengths).mean()
    return loss.detach(), torch.autograd.grad(loss, visual)[0]


@pytest.fixture(scope="module")
def half():
    return LanguageModel("world", dtype="bfloat16", device="cpu")


@pytest.fixture(scope="module")
def whole():
    return LanguageModel("world", dtype="float32", device="cpu")


def test_half_precision_on_a_cpu_attends_in_float32(half, whole):
    assert half.model.config._attn_implementation == ATTENTION
    assert whole.model.config._attn_implementation == "sdpa"


def test_losses_and_gradients_agree_with_float32_to_bfloat16s_rounding(half, whole):
    given = captions()
    (loss, slope), (expected_loss, expected_slope) = gradient(half, *given), gradient(whole, *given)
    assert abs(float(loss - expected_loss)) < 0.02 * float(expected_loss)
    assert float((slope - expected_slope).norm() / expected_slope.norm()) < 0.05


def test_padding_is_masked_while_captions_are_written(half):
    visual, ids, _ = captions()
    mask = torch.ones(4, 25, dtype=torch.long)
    mask[1, :5] = 0
    inputs = torch.cat([visual.to(torch.bfloat16), half.embed(ids)], 1)
    with torch.no_grad():
        seen = half.model(inputs_embeds=inputs, attention_mask=mask).logits[1, -1]
        inputs[1, :5] = 7.0
        hidden = half.model(inputs_embeds=inputs, attention_mask=mask).logits[1, -1]
    assert torch.equal(seen, hidden)


def test_a_step_takes_time(whole):
    assert 0 < step_seconds(whole, 2) < 60


@pytest.mark.parametrize(("float32", "bfloat16", "expected"), [(1.0, 0.5, True), (1.0, 0.95, False), (1.0, 2.0, False)])
def test_bfloat16_has_to_win_clearly(float32, bfloat16, expected):
    assert prefers_bfloat16(float32, bfloat16) is expected
