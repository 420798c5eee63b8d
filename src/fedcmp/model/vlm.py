"""The whole model: frozen encoder, trainable projector, frozen LLM, and the losses that training and evaluation need.

Shapes: B pairs, P visual tokens, V vision width, D text width, T caption tokens, N all counted tokens.
"""

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from fedcmp.model.language import LanguageModel
from fedcmp.model.trainable import Trainable
from fedcmp.model.vision import VisionEncoder


class VLM:
    """Frozen LLM and what is trained before it; the encoder is needed only where images, not features, come in."""

    def __init__(self, language: LanguageModel, trainable: Trainable, encoder: VisionEncoder | None = None) -> None:
        self.language, self.encoder = language, encoder
        self.trainable = trainable.to(language.device)

    def visual_tokens(self, features_BPV: Tensor) -> Tensor:
        """Turn (B, P, V) frozen features into (B, P, D); the trainable computes in float32."""
        tokens: Tensor = self.trainable(features_BPV.to(self.language.device, torch.float32))
        return tokens

    def caption_losses(self, features_BPV: Tensor | None, ids_BT: Tensor, lengths_B: Tensor) -> Tensor:
        """Return (N,) loss of every caption token; features None: the blind LLM. See LanguageModel.caption_losses."""
        visual = None if features_BPV is None else self.visual_tokens(features_BPV)
        return self.language.caption_losses(visual, ids_BT, lengths_B)

    @torch.no_grad()
    def alignment_errors(self, features_BPV: Tensor, ids_BT: Tensor, lengths_B: Tensor) -> Tensor:
        """Return (B,) 1 - cos(mean visual token, mean caption embedding): E of docs/methods.md, per pair."""
        visual = self.visual_tokens(features_BPV).mean(1)
        text = self.language.mean_embeddings(ids_BT, lengths_B).float()
        return (1 - functional.cosine_similarity(visual, text, dim=-1)).cpu()

    @torch.no_grad()
    def answer(self, images: Sequence[Image.Image], prompts: Sequence[str], *, max_new_tokens: int = 32) -> list[str]:
        """Return greedy answers to one prompt per image; an empty prompt asks for the caption.

        Raises:
            ValueError: without an encoder, or if the two lists differ in length.
        """
        if self.encoder is None:
            raise ValueError("this model was built without an encoder: it can read features, not images")
        if len(images) != len(prompts):
            raise ValueError(f"{len(images)} images, {len(prompts)} prompts: one prompt per image is needed")
        features = self.encoder.encode(images)
        ids = [self.language.prompt_ids(text) for text in prompts]
        answers = [""] * len(prompts)
        for length in sorted({len(row) for row in ids}):
            rows = [i for i, row in enumerate(ids) if len(row) == length]
            batch = torch.tensor([ids[i] for i in rows], dtype=torch.long).view(len(rows), length)
            texts = self.language.generate(self.visual_tokens(features[rows]), batch, max_new_tokens=max_new_tokens)
            for i, text in zip(rows, texts, strict=True):
                answers[i] = text
        return answers
