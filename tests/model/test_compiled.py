import logging

import pytest
import torch

from fedcmp.model import compiled
from fedcmp.model.compiled import CompiledBlocks, why_not
from fedcmp.model.language import LanguageModel

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def compiler():
    reason = why_not(CPU)
    if reason is not None:
        pytest.skip(reason)


def losses_and_gradient(language, captions=9):
    generator = torch.Generator().manual_seed(1)
    ids, lengths = torch.randint(5, 100, (3, captions), generator=generator), torch.tensor([captions, 2, 6])
    visual = torch.randn(3, 5, language.width, generator=generator, requires_grad=True)
    losses = language.caption_losses(visual, ids, lengths)
    return losses.detach(), torch.autograd.grad(losses.mean(), visual)[0]


def test_without_a_compiler_training_goes_on(monkeypatch, caplog):
    monkeypatch.setattr(compiled, "why_not", lambda _device: "torch.compile does not work on cpu here (no g++)")
    with caplog.at_level(logging.WARNING):
        language = LanguageModel("world", compile=True)
    assert "model.compile = true" in caplog.text
    assert "no g++" in caplog.text
    expected = losses_and_gradient(LanguageModel("world"))
    assert all(torch.equal(*both) for both in zip(losses_and_gradient(language), expected, strict=True))


def test_a_broken_compiler_is_told_in_a_few_words(monkeypatch):
    def broken(_function):
        raise RuntimeError("no compiler\nand a long story")

    monkeypatch.setattr(torch, "compile", broken)
    assert why_not(CPU) == "torch.compile does not work on cpu here (no compiler)"


@pytest.mark.slow
@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("precision", ["same", "float8"])
def test_compiled_losses_and_gradients_agree(precision):
    torch._dynamo.reset()
    plain = LanguageModel("world", frozen_precision=precision)
    fast = LanguageModel("world", frozen_precision=precision, compile=True)
    assert fast._blocks.blocks == 4
    for captions in (9, 12):  # another length: another shape
        for found, expected in zip(
            losses_and_gradient(fast, captions), losses_and_gradient(plain, captions), strict=True
        ):
            # a number on the edge of two FP8 numbers may fall to either side
            distance = float((found - expected).norm() / expected.norm())
            assert distance < (1e-5 if precision == "same" else 0.03)


@pytest.mark.slow
@pytest.mark.usefixtures("compiler")
def test_outside_the_context_nothing_is_compiled():
    model = LanguageModel("world").model
    context = CompiledBlocks(model, CPU)
    block = model.model.layers[0]
    assert block._compiled_call_impl is None
    with context:
        assert block._compiled_call_impl is not None
    assert block._compiled_call_impl is None
