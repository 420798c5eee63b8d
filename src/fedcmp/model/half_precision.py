"""Half precision on a CPU: attention in float32 there, and a probe that says whether bfloat16 pays at all.

CPUs with bfloat16 instructions multiply matrices in it several times as fast as in float32, but torch's CPU kernels of
attention lose more than that in their backward pass, so attention alone is computed in float32. What is left of the
gain depends on the CPU and on the model's size: `model.dtype = "auto"` measures a training step of the recipe's own LLM
in both and keeps bfloat16 only where it clearly wins (docs/performance.md).
"""

import time
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

if TYPE_CHECKING:
    from fedcmp.model.language import LanguageModel

ATTENTION = "fedcmp_sdpa_float32"
CLEARLY = 1.15  # how many times as fast bfloat16 must be to be chosen: its rounding is not free
_HALF = (torch.bfloat16, torch.float16)
_VISUAL, _CAPTION, _STEPS = 16, 32, 5


def _attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    mask = (
        attention_mask.float() if attention_mask is not None and attention_mask.is_floating_point() else attention_mask
    )
    output, _ = sdpa_attention_forward(module, query.float(), key.float(), value.float(), mask, **options)
    return output.to(query.dtype), None


AttentionInterface.register(ATTENTION, _attention)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)


def use_float32_attention(model: Any) -> bool:
    """Let a half-precision model on the CPU compute its attention in float32, where it is torch's own (SDPA).

    Args:
        model: a PreTrainedModel.

    Returns:
        Whether it does now.
    """
    if model.dtype not in _HALF or model.device.type != "cpu" or model.config._attn_implementation != "sdpa":
        return False
    model.set_attn_implementation(ATTENTION)
    return True


def step_seconds(language: "LanguageModel", batch_size: int) -> float:
    """Return the best time of a few training steps: loss of random captions, gradient by the visual tokens."""
    generator = torch.Generator().manual_seed(0)
    visual = torch.randn(batch_size, _VISUAL, language.width, generator=generator).to(language.device).requires_grad_()
    rows = language.embedding.weight.shape[0]
    ids = torch.randint(0, rows, (batch_size, _CAPTION), generator=generator)
    lengths = torch.full((batch_size,), _CAPTION)
    best = float("inf")
    for _ in range(_STEPS):
        started = time.perf_counter()
        torch.autograd.grad(language.caption_losses(visual, ids, lengths).mean(), visual)
        if language.device.type == "cuda":
            torch.cuda.synchronize(language.device)
        best = min(best, time.perf_counter() - started)
    return best


def prefers_bfloat16(float32_seconds: float, bfloat16_seconds: float) -> bool:
    """Return whether bfloat16 is enough faster."""
    return float32_seconds > CLEARLY * bfloat16_seconds
