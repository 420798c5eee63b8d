"""Pretraining of the world's tiny CLIP: a picture and its caption should meet, and patches should know what they show.

Three losses: InfoNCE between pictures and captions (CLIP); which words the caption holds, from the picture's embedding
(InfoNCE alone stalls at small batches); which words describe a patch's own cell, from the penultimate layer's patch
tokens, the layer that a projector reads. Shapes: B pairs, P = 9 patches, V words, D = 128 width.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPConfig, CLIPModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from fedcmp.world.scene import PRETRAINING_SEED, Scenes, make_scenes
from fedcmp.world.tokenizer import vocabulary, world_tokenizer
from tools.pretrain_world.documents import BagEncoder
from tools.pretrain_world.language import learning_rate_factor

PIXEL_MEAN, PIXEL_STD = 0.5, 0.25
PATCH = 16
# The frozen LLM never sees these scenes' captions: it is pretrained on the same stream's lower half.
FIRST_SCENE = 2**40


def pixel_values(images: Tensor) -> Tensor:
    """(n, 48, 48, 3) uint8 -> (n, 3, 48, 48) float32, normalised as the shipped image processor does."""
    return (images.permute(0, 3, 1, 2).float() / 255 - PIXEL_MEAN) / PIXEL_STD


def clip_config() -> CLIPConfig:
    """48 x 48 pixels, patches of 16, width 128, four layers."""
    tokenizer = world_tokenizer()
    width = {"hidden_size": 128, "intermediate_size": 384, "num_attention_heads": 4, "projection_dim": 64}
    return CLIPConfig(
        vision_config=width | {"num_hidden_layers": 4, "image_size": 48, "patch_size": PATCH},
        text_config=width
        | {
            "num_hidden_layers": 1,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 40,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        projection_dim=64,
    )


def caption_tokens(captions: list[str]) -> tuple[Tensor, Tensor]:
    """(n, T) ids `<bos> caption <eos>`, right padded, and their mask."""
    tokenizer = world_tokenizer()
    rows = [[*ids, tokenizer.eos_token_id] for ids in tokenizer(captions)["input_ids"]]
    length = max(map(len, rows))
    ids = torch.tensor([row + [tokenizer.pad_token_id] * (length - len(row)) for row in rows])
    return ids, (ids != tokenizer.pad_token_id).long()


@dataclass
class _Helpers:
    """Linear heads used in pretraining only."""

    caption_words: nn.Linear
    cell_words: nn.Linear


class _Objective:
    def __init__(self, model: CLIPModel, heads: _Helpers) -> None:
        self.model, self.heads = model, heads
        self.bags = BagEncoder()
        sample = self._caption_bags(caption_tokens(make_scenes(PRETRAINING_SEED, 0, 4096, images=False).captions)[0])
        self.rarity = (1 / (sample.mean(0) + 0.01)).log().clamp(min=0)
        self.rarity[: self.bags.specials] = 0

    def _caption_bags(self, ids: Tensor) -> Tensor:
        return torch.zeros(len(ids), len(vocabulary())).scatter_(1, ids, 1.0)

    def __call__(self, scenes: Scenes) -> tuple[Tensor, dict[str, float]]:
        ids, mask = caption_tokens(scenes.captions)
        vision = self.model.vision_model(pixel_values(torch.from_numpy(scenes.images)), output_hidden_states=True)
        text = self.model.text_model(ids, attention_mask=mask)
        v = functional.normalize(self.model.visual_projection(vision.pooler_output), dim=-1)
        t = functional.normalize(self.model.text_projection(text.pooler_output), dim=-1)
        logits = v @ t.T * self.model.logit_scale.exp().clamp(max=100)
        target = torch.arange(len(v))
        contrast = (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)) / 2

        bag = self._caption_bags(ids) * self.rarity
        words = functional.cross_entropy(self.heads.caption_words(v * 8), bag / bag.sum(1, keepdim=True))

        patches = vision.hidden_states[-2][:, 1:]
        said = self.bags.multi_hot(scenes)
        cells = functional.binary_cross_entropy_with_logits(self.heads.cell_words(patches), said, reduction="none")
        cells = cells.sum(-1).mean()
        parts = {"contrast": contrast.item(), "caption words": words.item(), "cell words": cells.item()}
        return contrast + words + 0.5 * cells, parts


def pretrain_vision(
    folder: Path,
    *,
    steps: int,
    batch_size: int = 128,
    learning_rate: float = 1.5e-3,
    log: Callable[[str], None] = print,
) -> CLIPModel:
    """Train the tiny CLIP from scratch and save it.

    Args:
        folder: where config.json and model.safetensors are written, in float16.
        steps: optimiser steps; each sees `batch_size` new scenes.
        batch_size: pairs a step.
        learning_rate: AdamW's peak rate.
        log: receives a line now and then.

    Returns:
        The model in evaluation mode.
    """
    torch.manual_seed(0)
    model = CLIPModel(clip_config()).train()
    size, words = len(vocabulary()), _Helpers(nn.Linear(64, len(vocabulary())), nn.Linear(128, len(vocabulary())))
    assert size == words.cell_words.out_features
    objective = _Objective(model, words)
    parameters = [*model.parameters(), *words.caption_words.parameters(), *words.cell_words.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.05)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * learning_rate_factor(step, steps)
        loss, parts = objective(make_scenes(PRETRAINING_SEED, FIRST_SCENE + step * batch_size, batch_size))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if step % max(1, steps // 50) == 0 or step == steps - 1:
            log(f"vision step {step}/{steps} " + " ".join(f"{name} {value:.3f}" for name, value in parts.items()))
    model.half().save_pretrained(folder)
    save_processing(folder)
    return model.float().eval()


def save_processing(folder: Path) -> None:
    """The image processor (any picture to 48 x 48) and the tokenizer of the text tower."""
    side = 3 * PATCH
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": side},
        crop_size={"height": side, "width": side},
        image_mean=[PIXEL_MEAN] * 3,
        image_std=[PIXEL_STD] * 3,
    )
    processor.save_pretrained(folder)
    world_tokenizer().save_pretrained(folder)
