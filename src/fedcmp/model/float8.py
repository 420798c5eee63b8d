"""Frozen linear layers in FP8 (e4m3): forward and the gradient by the input, on a GPU's FP8 units or emulated.

    forward     y = x W^T    x by token, W by output:  each row of either has its own scale
    gradient    g W          g by token, W by input:   a second copy of W, rounded along the other axis
A row's scale is its largest magnitude over 448, e4m3's largest number; products are summed in float32 and scaled back
afterwards. Weights are rounded once, activations and gradients at every call. Scales belong to rows, so a sample's
result does not depend on what shares its batch. Both copies together take what the bfloat16 weights took.

Where torch._scaled_mm does not work, the same rounded numbers are multiplied in float32: slow, but with FP8's effect on
the loss. There each copy is kept in float32, 8 bytes a weight. Shapes: M tokens, I inputs, O outputs.
"""

import functools
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedcmp.model.frozen_linear import FrozenLinear

_LARGEST = 448.0  # of torch.float8_e4m3fn
_MULTIPLE = 16  # what the hardware asks of both sides of a matrix


class Float8Linear(nn.Module):
    """A frozen nn.Linear, its weights in FP8; the weights that it was made from are not kept.

    Args:
        linear: with weights (O, I), on the device where it will compute.
    """

    rows_OI: Tensor
    row_scales_1O: Tensor
    columns_IO: Tensor
    column_scales_1I: Tensor
    bias: Tensor | None

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        weight = linear.weight.detach()
        carry = torch.float8_e4m3fn if is_native(weight.device) else torch.float32
        for name, matrix in (("row", weight), ("column", weight.t())):
            codes, scales = quantise(matrix)
            other = "OI" if name == "row" else "IO"
            self.register_buffer(f"{name}s_{other}", codes.to(carry), persistent=False)
            self.register_buffer(f"{name}_scales_1{other[0]}", scales.t().contiguous(), persistent=False)
        bias = None if linear.bias is None else linear.bias.detach()
        self.register_buffer("bias", bias, persistent=False)

    def extra_repr(self) -> str:
        """Return what print(model) shows."""
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"

    def forward(self, input: Tensor) -> Tensor:
        """Turn (..., I) into (..., O), in the input's dtype."""
        output: Tensor = _Product.apply(  # type: ignore[no-untyped-call]
            input.reshape(-1, self.in_features),
            self.rows_OI,
            self.row_scales_1O,
            self.columns_IO,
            self.column_scales_1I,
        )
        output = output.view(*input.shape[:-1], self.out_features)
        return output if self.bias is None else output + self.bias.to(output.dtype)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, input_MI: Tensor, rows_OI: Tensor, row_scales: Tensor, columns_IO: Tensor, column_scales: Tensor
    ) -> Tensor:
        ctx.save_for_backward(columns_IO, column_scales)
        return _times(input_MI, rows_OI, row_scales, fast=True)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        columns_IO, column_scales = ctx.saved_tensors
        # gradients span more magnitudes: the hardware's shortened sums are not for them
        return _times(gradients[0], columns_IO, column_scales, fast=False), None, None, None, None


def _times(left: Tensor, right: Tensor, right_scales: Tensor, *, fast: bool) -> Tensor:
    """Return (M, N) = left (M, K), rounded here, times the transpose of right (N, K) with scales (1, N)."""
    codes, scales = quantise(left)
    if right.dtype == torch.float32:
        product = functional.linear(codes.float(), right)
        return (product * scales * right_scales).to(left.dtype)
    native: Tensor = torch._scaled_mm(
        codes, right.t(), scale_a=scales, scale_b=right_scales, out_dtype=torch.bfloat16, use_fast_accum=fast
    )
    return native.to(left.dtype)


def quantise(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Round every row to e4m3 with a scale of its own.

    Args:
        matrix: (M, K) float.

    Returns:
        (M, K) torch.float8_e4m3fn codes, row-major whatever the matrix's layout, and (M, 1) float32 scales; codes times
        scales is about the matrix. A row with NaN or infinity comes out as NaN.
    """
    wide = matrix.float()
    scales = wide.abs().amax(1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny * _LARGEST) / _LARGEST
    return (wide / scales).to(torch.float8_e4m3fn).contiguous(), scales


@functools.cache
def is_native(device: torch.device) -> bool:
    """Return whether torch multiplies FP8 matrices with a scale per row on this device (Hopper and later)."""
    if device.type != "cuda":
        return False
    some = torch.ones(_MULTIPLE, _MULTIPLE, dtype=torch.bfloat16, device=device)
    codes, scales = quantise(some)
    try:
        for fast in (True, False):  # the forward product and the gradient's
            _times(some, codes, scales.t().contiguous(), fast=fast)
    except (RuntimeError, NotImplementedError, TypeError, ValueError):
        return False
    return True


def use_float8_linears(model: nn.Module, *, keep: nn.Module | None = None) -> int:
    """Turn a frozen model's nn.Linear layers into Float8Linear, one after the other, in place.

    Args:
        model: on its device, without gradients.
        keep: a layer that stays as it is: the output layer, whose rounding would show in every loss. Layers whose sides
            are no multiples of 16 stay too.

    Returns:
        How many layers are in FP8 then, those that were before counted too.
    """
    turned = sum(isinstance(module, Float8Linear) for module in model.modules())
    # parents and names are listed, not the layers: one that is replaced must go at once, or both forms of all are there
    for parent in [module for module in model.modules() if any(module.children())]:
        for name in [name for name, _ in parent.named_children()]:
            child = parent.get_submodule(name)
            if type(child) not in (nn.Linear, FrozenLinear) or child is keep:
                continue
            assert isinstance(child, nn.Linear)
            if child.weight.requires_grad or child.in_features % _MULTIPLE or child.out_features % _MULTIPLE:
                continue
            setattr(parent, name, Float8Linear(child))
            turned += 1
    return turned
