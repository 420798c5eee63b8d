"""Linear layers of a frozen model, computed by oneDNN on CPUs with 512-bit vectors.

torch multiplies float32 matrices by MKL, which on some CPUs keeps to 256-bit vectors: half of what a core can do
(benchmarks/training.py). oneDNN, which torch ships too, uses them wherever they are. Only weights that get no gradient
take this way: forward and the gradient by the input, nothing else. Results agree to rounding.

Whether a layer takes it depends on the build and the CPU alone, never on a timing: the same machine computes the same
bits in every process.
"""

from typing import Any

import torch
from torch import Tensor, nn


class FrozenLinear(nn.Linear):
    """An nn.Linear whose weight and bias are constants; its parameters and their names are those of nn.Linear."""

    def forward(self, input: Tensor) -> Tensor:
        """Turn (..., in) into (..., out)."""
        if self.weight.requires_grad or input.dtype != torch.float32 or input.device.type != "cpu":
            return super().forward(input)
        if torch.compiler.is_compiling():  # the compiler knows this product with constant weights only
            return super().forward(input)
        output: Tensor = _Product.apply(input, self.weight, self.bias)  # type: ignore[no-untyped-call]
        return output


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        return _times(input, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        return _times(gradients[0], weight.t(), None), None, None


def _times(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(input, weight, bias, "none", [], "")
    return product


def is_supported() -> bool:
    """Return whether this build of torch has the product, and this CPU the vectors that it is faster with."""
    capability = torch.backends.cpu.get_cpu_capability()
    return (
        capability == "AVX512"
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def use_frozen_linears(model: nn.Module) -> int:
    """Turn a frozen float32 model's nn.Linear layers into FrozenLinear, in place, where that is faster.

    Args:
        model: on the CPU; layers with a gradient, and subclasses of nn.Linear, stay as they are.

    Returns:
        How many layers were turned.
    """
    if not is_supported():
        return 0
    turned = [
        module
        for module in model.modules()
        if type(module) is nn.Linear and module.weight.dtype == torch.float32 and not module.weight.requires_grad
    ]
    for module in turned:
        module.__class__ = FrozenLinear
    return len(turned)
