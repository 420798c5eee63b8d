"""A frozen LLM tried out before hours of work depend on it: finite numbers, and no look at what follows.

Weights that are damaged, and numbers that overflow in float16 (whose largest is 65,504), show in the first loss of all,
which no learning rate has touched yet. A model whose earlier tokens see later ones (BERT's kind) would learn captions
from the answers.
"""

import torch
from torch import Tensor

from fedcmp.errors import UserError
from fedcmp.model.language import LanguageModel
from fedcmp.model.text_format import KEY

_VISUAL, _CAPTION = 16, 24


def check_language(language: LanguageModel) -> None:
    """Take one loss and one gradient of made-up visual tokens and a made-up caption.

    Args:
        language: as training will use it.

    Raises:
        UserError: the loss or the gradient is not finite, or a token changes the logits of earlier ones.
    """
    visual, ids = _made_up(language)
    visual.requires_grad_()
    losses = language.caption_losses(visual, ids, torch.tensor([ids.shape[1]]))
    (gradient,) = torch.autograd.grad(losses.mean(), visual)
    place = f"{KEY} = {language.name!r}"
    if not (losses.isfinite().all() and gradient.isfinite().all()):
        dtype = str(language.dtype).removeprefix("torch.")
        if language.dtype == torch.float16:
            raise UserError(
                f"model.dtype = 'float16': numbers of {place} overflow in it before anything is trained; set "
                'model.dtype = "bfloat16" or "float32"'
            )
        raise UserError(
            f"{place}: its loss is not finite in {dtype} before anything is trained; its weights are damaged: get the "
            "checkpoint again"
        )
    if _looks_ahead(language, visual.detach(), ids):
        raise UserError(
            f"{place}: its tokens see those that follow, so it would be trained on the answers; use a causal LM"
        )


def _made_up(language: LanguageModel) -> tuple[Tensor, Tensor]:
    """Return (1, P, D) visual tokens and (1, T) caption ids that fit the LLM's positions."""
    room = language.max_positions or _VISUAL + _CAPTION + 1000
    room -= len(language.start_ids) + len(language.separator_ids) + len(language.caption_prompt_ids)
    captions = max(2, min(_CAPTION, room // 2))
    generator = torch.Generator().manual_seed(0)
    visual = torch.randn(1, max(1, min(_VISUAL, room - captions)), language.width, generator=generator)
    rows = language.embedding.weight.shape[0]
    ids = torch.randint(0, rows, (1, captions), generator=generator)
    return visual.to(language.device), ids


@torch.no_grad()
def _looks_ahead(language: LanguageModel, visual: Tensor, ids: Tensor) -> bool:
    """Return whether another last token changes the logits before it."""
    other = ids.clone()
    other[0, -1] = (ids[0, -1] + 1) % language.embedding.weight.shape[0]
    first, second = (
        language.logits(language.inputs(visual, own), ids.shape[1])[:, :-1].float() for own in (ids, other)
    )
    # a causal LM's are equal to the bit on a CPU
    rounding = 3e-5 if language.dtype == torch.float32 else 2e-3
    return not torch.allclose(first, second, rtol=0, atol=rounding * float(first.abs().max()))
