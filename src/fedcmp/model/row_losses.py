"""Cross-entropy of hidden states over a large vocabulary, a few rows of logits at a time.

    loss_n = logsumexp(W h_n + b) - (W h_n + b)[y_n]         d loss_n / d h_n = W^T (softmax_n - onehot(y_n))
The gradient of a row is that of its own loss times whatever comes from behind, so it is finished while the row's logits
are at hand, and no logits are kept or computed twice. Memory beyond the hidden states' own gradient: R x V logits in
the weights' dtype and twice in float32, instead of N x V of each.
Shapes: N tokens, R rows at a time, D width, V vocabulary.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def row_losses(hidden_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None, targets_N: Tensor, *, rows: int) -> Tensor:
    """Return the loss of every row; as cross_entropy(linear(hidden).float(), targets, reduction="none").

    Args:
        hidden_ND: (N, D) what the output layer is fed.
        weight_VD: (V, D) the output layer's frozen weights, in the hidden states' dtype.
        bias_V: (V,) its bias, or None.
        targets_N: (N,) the right tokens.
        rows: R, at least 1.

    Returns:
        (N,) float32 losses; the gradient goes to the hidden states only, and only once.
    """
    losses: Tensor = _RowLosses.apply(hidden_ND, weight_VD, bias_V, targets_N, rows)  # type: ignore[no-untyped-call]
    return losses


class _RowLosses(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None, targets_N: Tensor, rows: int
    ) -> Tensor:
        losses = torch.empty(len(hidden_ND), dtype=torch.float32, device=hidden_ND.device)
        gradient = torch.empty_like(hidden_ND) if ctx.needs_input_grad[0] else None
        for start in range(0, len(hidden_ND), rows):
            some = slice(start, start + rows)
            logits_RV = functional.linear(hidden_ND[some], weight_VD, bias_V).float()
            right_R1 = targets_N[some, None]
            normaliser_R1 = logits_RV.logsumexp(1, keepdim=True)
            losses[some] = (normaliser_R1 - logits_RV.gather(1, right_R1))[:, 0]
            if gradient is not None:
                slope_RV = logits_RV.sub_(normaliser_R1).exp_()  # the softmax, in the logits' place
                slope_RV.scatter_add_(1, right_R1, torch.full_like(normaliser_R1, -1.0))
                torch.mm(slope_RV.to(weight_VD.dtype), weight_VD, out=gradient[some])
        if gradient is not None:
            ctx.save_for_backward(gradient)
        return losses

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return (gradient * gradients[0][:, None]).to(gradient.dtype), None, None, None, None
