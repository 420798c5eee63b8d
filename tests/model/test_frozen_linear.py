import copy

import pytest
import torch
from torch import nn

from fedcmp.model.frozen_linear import FrozenLinear, is_supported, use_frozen_linears
from fedcmp.model.language import LanguageModel

needs_it = pytest.mark.skipif(not is_supported(), reason="this CPU or this torch gains nothing from oneDNN's product")


def frozen(*, bias=True):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(24, 40, bias=bias), nn.GELU(), nn.Linear(40, 8, bias=bias)).requires_grad_(False)


def output_and_gradient(model, shape, seed=1):
    inputs = torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).requires_grad_()
    output = model(inputs)
    (gradient,) = torch.autograd.grad(output.square().sum(), inputs)
    return output, gradient


@needs_it
@pytest.mark.parametrize("shape", [(5, 24), (3, 7, 24), (1, 24), (2, 2, 3, 24)])
@pytest.mark.parametrize("bias", [True, False])
def test_outputs_and_gradients_agree_with_torch(shape, bias):
    model = frozen(bias=bias)
    turned = copy.deepcopy(model)
    assert use_frozen_linears(turned) == 2
    for found, expected in zip(output_and_gradient(turned, shape), output_and_gradient(model, shape), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@needs_it
def test_a_slice_that_is_not_contiguous_is_the_same():
    model = frozen()
    inputs = torch.randn(4, 9, 24).transpose(0, 1)[::2]
    expected = model(inputs)
    use_frozen_linears(model)
    torch.testing.assert_close(model(inputs), expected, rtol=1e-5, atol=1e-5)


def test_layers_with_a_gradient_stay_as_they_are():
    model = frozen()
    model[0].requires_grad_(True)
    use_frozen_linears(model)
    assert type(model[0]) is nn.Linear


@needs_it
def test_a_layer_that_gets_a_gradient_later_is_computed_by_torch():
    model = frozen()
    use_frozen_linears(model)
    model.requires_grad_(True)
    model(torch.randn(2, 24)).sum().backward()
    assert model[0].weight.grad is not None


def test_other_precisions_are_left_to_torch():
    model = frozen().to(torch.bfloat16)
    assert use_frozen_linears(model) == 0


@needs_it
def test_names_and_weights_are_those_of_the_model():
    model = frozen()
    before = copy.deepcopy(model.state_dict())
    use_frozen_linears(model)
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)


@needs_it
def test_the_embedded_llm_computes_this_way():
    model = LanguageModel("world").model
    kinds = {type(module) for module in model.modules() if isinstance(module, nn.Linear)}
    assert kinds == {FrozenLinear}
