import pytest
import torch
from torch.nn import functional

from fedcmp.errors import UserError
from fedcmp.model import row_losses as module
from fedcmp.model.language import LanguageModel
from fedcmp.model.row_losses import row_losses


def problem(dtype=torch.float32, *, bias=True):
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(13, 24, generator=generator).to(dtype).requires_grad_()
    weight = torch.randn(300, 24, generator=generator).to(dtype)
    offset = torch.randn(300, generator=generator).to(dtype) if bias else None
    targets = torch.randint(300, (13,), generator=generator)
    behind = torch.rand(13, generator=generator)
    return hidden, weight, offset, targets, behind


@pytest.mark.parametrize("rows", [1, 4, 13, 100])
@pytest.mark.parametrize("bias", [True, False])
def test_losses_and_gradients_equal_cross_entropys(rows, bias):
    hidden, weight, offset, targets, behind = problem(bias=bias)
    expected = functional.cross_entropy(functional.linear(hidden, weight, offset), targets, reduction="none")
    found = row_losses(hidden, weight, offset, targets, rows=rows)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    for one, other in zip(*(torch.autograd.grad(loss, hidden, behind) for loss in (found, expected)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_bfloat16_agrees_with_bfloat16_logits():
    hidden, weight, _, targets, behind = problem(torch.bfloat16, bias=False)
    expected = functional.cross_entropy((hidden @ weight.T).float(), targets, reduction="none")
    found = row_losses(hidden, weight, None, targets, rows=4)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    (one,), (other,) = (torch.autograd.grad(loss, hidden, behind) for loss in (found, expected))
    assert float((one - other).float().norm() / other.float().norm()) < 0.01


def test_no_more_rows_of_logits_are_held(monkeypatch):
    most = []
    real = functional.linear

    def spied(*arguments):
        logits = real(*arguments)
        most.append(len(logits))
        return logits

    monkeypatch.setattr(module.functional, "linear", spied)
    hidden, weight, offset, targets, behind = problem()
    row_losses(hidden, weight, offset, targets, rows=5).backward(behind)
    assert most == [5, 5, 3]


def test_nothing_is_prepared_for_a_gradient_that_nobody_wants():
    hidden, weight, offset, targets, _ = problem()
    assert not row_losses(hidden.detach(), weight, offset, targets, rows=5).requires_grad


@pytest.mark.parametrize("which", ["world", "byte-level"])
def test_a_models_losses_are_the_same(which, byte_level_llm):
    name = "world" if which == "world" else str(byte_level_llm)
    plain, few = LanguageModel(name), LanguageModel(name, logit_rows=4)
    generator = torch.Generator().manual_seed(1)
    ids, lengths = torch.randint(5, 100, (3, 9), generator=generator), torch.tensor([9, 2, 6])
    visual = torch.randn(3, 5, plain.width, generator=generator, requires_grad=True)
    expected, found = (language.caption_losses(visual, ids, lengths) for language in (plain, few))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    (one,), (other,) = (torch.autograd.grad(loss.mean(), visual) for loss in (found, expected))
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("cap", [0.1, 30.0])
def test_logits_that_are_capped_afterwards_are_refused(cap):
    """Also where the cap is far above the logits that a probe sees: Gemma 2's own is 30."""
    from transformers import Gemma2Config, Gemma2ForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = Gemma2Config(vocab_size=64, num_key_value_heads=1, head_dim=16, final_logit_softcapping=cap, **sizes)
    with pytest.raises(UserError, match=r"model\.logit_rows: the logits of"):
        LanguageModel.from_model(
            Gemma2ForCausalLM(config), start_ids=[2], separator_ids=[3], end=1, pad=0, logit_rows=4
        )
