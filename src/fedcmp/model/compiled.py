"""An LLM's blocks through torch.compile, while a loss is computed.

Block by block, not the model as a whole: all blocks share one compiled function, so compiling takes as long as for one,
and the attention mask is decided outside, where none is made for a causal batch. Only training's loss runs this way;
generation with its growing cache would compile again and again.
"""

import logging
from types import TracebackType
from typing import Any

import torch
from torch import nn
from torch._dynamo.exc import TorchDynamoException

logger = logging.getLogger("fedcmp.model")


class CompiledBlocks:
    """A context in which a model's blocks run compiled; where nothing compiles, one in which they run as always.

    Args:
        model: its longest list of modules are its blocks.
        device: that it computes on.

    Attributes:
        blocks: how many run compiled; 0 without a compiler, which is logged once, as a warning.
    """

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        lists = [list(module) for module in model.modules() if isinstance(module, nn.ModuleList)]
        blocks = max(lists, key=len, default=[])
        reason = why_not(device) if blocks else "the model has no list of blocks"
        if reason is not None:
            logger.warning("model.compile = true: %s; training continues without it", reason)
            blocks = []
        self.blocks = len(blocks)
        self._calls: list[tuple[nn.Module, Any]] = []
        for block in blocks:
            block.compile()
            self._calls.append((block, block._compiled_call_impl))
            block._compiled_call_impl = None

    def __enter__(self) -> None:
        for block, call in self._calls:
            block._compiled_call_impl = call

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for block, _ in self._calls:
            block._compiled_call_impl = None


def why_not(device: torch.device) -> str | None:
    """Return why torch.compile does not work on a device, in a few words; None where it does."""
    try:
        sample = torch.ones(8, device=device, requires_grad=True)
        torch.compile(lambda x: (x * 2).cos().sum())(sample).backward()
    except (TorchDynamoException, RuntimeError, OSError, ImportError) as error:
        reason = str(error).strip().splitlines()
        return f"torch.compile does not work on {device} here ({reason[0] if reason else type(error).__name__})"
    return None
