"""What one client changed: its tensors minus the global ones, in float64, whole or in blocks."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from fedcmp.aggregation.blocks import blocks


class Change:
    """Client minus global. Nothing is computed, and no memory taken, before it is asked for.

    Args:
        state: tensor name -> the client's tensor.
        start: tensor name -> the global tensor, of the same shape.
    """

    def __init__(self, state: Mapping[str, Tensor], start: Mapping[str, Tensor]) -> None:
        self._state = state
        self._start = start

    def blocks(self, name: str, *others: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """Yield one tensor's change in stretches, fresh and in float64, with the same stretches of other tensors.

        Args:
            name: the tensor.
            *others: tensors with as many entries, on the global tensor's device; see `blocks`.
        """
        start = self._start[name]
        theirs = self._state[name].detach().to(start.device)
        for theirs_block, start_block, *other_blocks in blocks(theirs, start, *others):
            yield theirs_block.to(torch.float64, copy=True).sub_(start_block), *other_blocks

    def whole(self) -> dict[str, Tensor]:
        """Return tensor name -> the change, float64, fresh."""
        changes = zeros_like(self._start)
        for name, whole in changes.items():
            for delta, stretch in self.blocks(name, whole):
                stretch.copy_(delta)
        return changes


def zeros_like(state: Mapping[str, Tensor], dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """Return contiguous zeros by tensor name, shaped and placed as in `state`, for running sums."""
    return {name: torch.zeros(tensor.shape, dtype=dtype, device=tensor.device) for name, tensor in state.items()}


def exact(tensor: Tensor, like: Tensor) -> Tensor:
    """Return a client's tensor in float64 on the device of the global one."""
    return tensor.detach().to(device=like.device, dtype=torch.float64)


def moved(start: Tensor, step: Tensor) -> Tensor:
    """Return a global tensor plus a step, summed in float64, as a fresh tensor of the global one's dtype."""
    result = torch.empty(start.shape, dtype=start.dtype, device=start.device)
    for block, start_block, step_block in blocks(result, start, step):
        block.copy_(start_block.to(torch.float64) + step_block)
    return result


def settled(merged: Tensor, start: Tensor) -> Tensor:
    """Return a merged tensor with the dtype and device of the global one, sharing nothing with the rule's memory."""
    # what a rule remembers is float64, so only that could be shared
    if merged.dtype == start.dtype != torch.float64 and merged.device == start.device and merged.is_contiguous():
        return merged
    return torch.empty(start.shape, dtype=start.dtype, device=start.device).copy_(merged)
