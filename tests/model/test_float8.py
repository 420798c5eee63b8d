"""FP8 frozen layers, emulated: against an oracle that rounds number by number."""

import math
import weakref

import numpy as np
import pytest
import torch
from torch import nn

from fedcmp.errors import UserError
from fedcmp.model import float8
from fedcmp.model.float8 import Float8Linear, is_native, quantise, use_float8_linears
from fedcmp.model.language import LanguageModel
from fedcmp.world.scene import make_scenes


def e4m3(value):
    """The nearest number of e4m3: 3 bits of mantissa, exponents from -6 on, at most 448; ties to even."""
    if value == 0:
        return 0.0
    exponent = max(math.floor(math.log2(abs(value))), -6)
    step = 2.0 ** (exponent - 3)
    return round(value / step) * step


def rounded(matrix):
    """Every row in units of its largest magnitude / 448."""
    out = np.zeros(matrix.shape)
    for i, row in enumerate(matrix.astype(np.float64)):
        scale = np.abs(row).max() / 448
        out[i] = [e4m3(value / scale) * scale for value in row]
    return out


@pytest.fixture
def linear():
    torch.manual_seed(0)
    return nn.Linear(32, 48).requires_grad_(False)


def test_rounding_equals_the_oracle():
    matrix = torch.randn(5, 40, generator=torch.Generator().manual_seed(1)) * torch.logspace(-3, 3, 5)[:, None]
    codes, scales = quantise(matrix)
    np.testing.assert_allclose((codes.float() * scales).numpy(), rounded(matrix.numpy()), rtol=1e-5, atol=1e-12)


def test_output_and_gradient_equal_the_oracle(linear):
    generator = torch.Generator().manual_seed(2)
    inputs = torch.randn(2, 3, 32, generator=generator, requires_grad=True)
    behind = torch.randn(2, 3, 48, generator=generator)
    output = Float8Linear(linear)(inputs)
    (gradient,) = torch.autograd.grad(output, inputs, behind)
    weight, bias = linear.weight.numpy(), linear.bias.numpy()
    flat = inputs.detach().view(6, 32).numpy()
    np.testing.assert_allclose(
        output.detach().view(6, 48).numpy(), rounded(flat) @ rounded(weight).T + bias, rtol=1e-4, atol=1e-4
    )
    expected = rounded(behind.view(6, 48).numpy()) @ rounded(weight.T).T
    np.testing.assert_allclose(gradient.view(6, 32).numpy(), expected, rtol=1e-4, atol=1e-4)


def test_results_are_those_of_the_layer_but_for_rounding(linear):
    inputs = torch.randn(64, 32, generator=torch.Generator().manual_seed(3))
    exact, found = linear(inputs), Float8Linear(linear)(inputs)
    distance = float((found - exact).norm() / exact.norm())
    assert 1e-3 < distance < 0.06  # two roundings of 2^-4 at most each, most of them less


def test_a_row_does_not_see_the_others(linear):
    layer = Float8Linear(linear)
    inputs = torch.randn(4, 32, generator=torch.Generator().manual_seed(4))
    wild = inputs.clone()
    wild[1], wild[2] = 1e6, float("nan")
    found = layer(wild)
    torch.testing.assert_close(found[[0, 3]], layer(inputs)[[0, 3]], rtol=1e-6, atol=1e-6)
    assert found[2].isnan().all()
    assert torch.equal(layer(torch.zeros(1, 32))[0], linear.bias)


def test_the_output_layer_and_odd_sides_stay(linear):
    model = nn.Sequential(linear, nn.Linear(48, 20), nn.Linear(32, 32)).requires_grad_(False)
    assert use_float8_linears(model, keep=model[2]) == 1
    assert isinstance(model[0], Float8Linear)
    assert [type(layer) for layer in model[1:]] == [nn.Linear, nn.Linear]
    assert use_float8_linears(model, keep=model[2]) == 1  # again: nothing is rounded twice


class Hardware:
    """torch._scaled_mm as a GPU has it: torch's own checks of layouts and scales, then the product."""

    def __init__(self):
        self.checked, self.calls = torch._scaled_mm, []

    def __call__(self, left, right, *, scale_a, scale_b, out_dtype, use_fast_accum):
        tensors = {"scale_a": scale_a.to("meta"), "scale_b": scale_b.to("meta")}
        self.checked(left.to("meta"), right.to("meta"), **tensors, out_dtype=out_dtype, use_fast_accum=use_fast_accum)
        self.calls.append((left.shape[0], use_fast_accum))
        return ((left.float() @ right.float()) * scale_a * scale_b).to(out_dtype)


@pytest.fixture
def hardware(monkeypatch):
    found = Hardware()
    monkeypatch.setattr(torch, "_scaled_mm", found)
    monkeypatch.setattr(float8, "is_native", lambda _device: True)
    return found


def test_the_hardware_is_given_what_it_asks_for(hardware, linear):
    """Row-major times column-major, contiguous scales a row; a gradient may come transposed or expanded."""
    inputs = torch.randn(6, 32, generator=torch.Generator().manual_seed(5)).bfloat16().requires_grad_()
    layer = Float8Linear(linear.bfloat16())
    assert layer.rows_OI.dtype == layer.columns_IO.dtype == torch.float8_e4m3fn
    output = layer(inputs)
    torch.testing.assert_close(output.float(), linear(inputs).float(), rtol=0.1, atol=0.1)
    behind = torch.randn(48, 6, generator=torch.Generator().manual_seed(6)).bfloat16()
    (gradient,) = torch.autograd.grad(output, inputs, behind.t())
    torch.testing.assert_close(gradient.float(), behind.t().float() @ linear.weight.float(), rtol=0.1, atol=0.3)
    layer(torch.ones(32, 6).bfloat16().t())
    layer(inputs).sum().backward()
    assert [fast for _, fast in hardware.calls] == [True, False, True, True, False]


def test_a_whole_llm_runs_on_the_hardwares_terms(hardware):
    plain = LanguageModel("world", dtype="bfloat16")
    rounded_llm = LanguageModel("world", dtype="bfloat16", frozen_precision="float8")
    visual = torch.randn(3, 4, plain.width, generator=torch.Generator().manual_seed(7)).requires_grad_()
    ids, lengths = torch.randint(5, 100, (3, 9), generator=torch.Generator().manual_seed(8)), torch.tensor([9, 2, 6])
    both = []
    for language in (plain, rounded_llm):
        loss = language.caption_losses(visual, ids, lengths).mean()
        both.append((loss.detach(), torch.autograd.grad(loss, visual)[0]))
    (expected, wanted), (found, gradient) = both
    assert hardware.calls
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0.05)
    assert torch.nn.functional.cosine_similarity(gradient.flatten(), wanted.flatten(), dim=0) > 0.95


def test_weights_are_let_go_one_after_the_other(monkeypatch):
    """Both forms of a whole LLM at once would not fit where one fits."""
    model = nn.Sequential(*(nn.Linear(16, 16) for _ in range(3))).requires_grad_(False)
    weights = [weakref.ref(layer.weight) for layer in model]
    alive = []
    made = Float8Linear.__init__

    def counting(self, linear):
        alive.append(sum(weight() is not None for weight in weights))
        made(self, linear)

    monkeypatch.setattr(Float8Linear, "__init__", counting)
    assert use_float8_linears(model) == 3
    assert alive == [3, 2, 1]


def test_the_cpu_emulates():
    assert not is_native(torch.device("cpu"))


def test_the_embedded_llms_losses_hardly_change():
    plain, rounded_llm = LanguageModel("world"), LanguageModel("world", frozen_precision="float8")
    captions = make_scenes(8, 0, 12, images=False).captions
    rows = [[*ids, plain.end] for ids in plain.tokenizer(captions, add_special_tokens=False)["input_ids"]]
    lengths = torch.tensor([len(row) for row in rows])
    ids = torch.tensor([row + [plain.pad] * (int(lengths.max()) - len(row)) for row in rows])
    expected, found = (language.caption_losses(None, ids, lengths) for language in (plain, rounded_llm))
    assert not torch.equal(found, expected)
    assert float(found.mean()) == pytest.approx(float(expected.mean()), abs=0.02)


def test_a_model_without_layers_to_turn_is_refused(tmp_path):
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=32, head_dim=12, **sizes))
    with pytest.raises(UserError, match=r"model\.frozen_precision = 'float8'.*multiples of 16"):
        LanguageModel.from_model(model, start_ids=[1], separator_ids=[3], end=2, pad=2, frozen_precision="float8")
