"""How much arithmetic a training step of a LLaVA is, and how much of it a device can do: the ceiling.

Shapes: L tokens of a sequence, D width, V vocabulary.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import LlavaForConditionalGeneration


@dataclass(frozen=True)
class Work:
    """Floating point operations of one training step that any implementation has to do.

    Attributes:
        language: 4 N a token (2 N forward, 2 N for the gradient by the input; no weight has a gradient), N without
            embeddings and output layer, and 4 V D a caption token for the output layer.
        tower: 2 N a patch, N of the layers below the one that is read; 0 where features are cached.
        attention: of both, apart: 6 L^2 D a layer in the LLM (causal: half of the square; forward 2, backward 4),
            4 L^2 D in the tower.
    """

    language: float
    tower: float
    attention: float

    @property
    def useful(self) -> float:
        """Without attention, as the goals count it."""
        return self.language + self.tower


@dataclass(frozen=True)
class Counts:
    """What work is computed from: weights by part, and widths.

    Attributes:
        blocks: N of the LLM's layers.
        head: V D, of the output layer.
        attention: heads times their width, summed over the LLM's layers.
        tower: N of the tower's layers that are read.
        patching: of the tower's convolution.
        tower_attention: the tower's width, summed over the layers that are read.
    """

    blocks: int
    head: int
    attention: int
    tower: int
    patching: int
    tower_attention: int

    @classmethod
    def of(cls, llava: LlavaForConditionalGeneration) -> "Counts":
        """Before any layer is turned into FP8."""
        text, vision, tower = llava.config.text_config, llava.config.vision_config, llava.model.vision_tower
        read = vision.num_hidden_layers - 1
        head_width = text.hidden_size // text.num_attention_heads
        return cls(
            blocks=sum(p.numel() for p in llava.model.language_model.layers.parameters()),
            head=text.vocab_size * text.hidden_size,
            attention=text.num_attention_heads * head_width * text.num_hidden_layers,
            tower=read * sum(p.numel() for p in tower.encoder.layers[0].parameters()),
            patching=tower.embeddings.patch_embedding.weight.numel(),
            tower_attention=read * vision.hidden_size,
        )

    def work(self, lengths: Sequence[int], patches: int, *, cached: bool) -> Work:
        """Of samples with captions of these lengths, padding not counted."""
        tokens = [2 + patches + length - 1 for length in lengths]  # <s>, picture, separator, caption without its end
        language = 4 * self.blocks * sum(tokens) + 4 * self.head * sum(lengths)
        attention = 6 * self.attention * sum(length**2 for length in tokens)
        if cached:
            return Work(float(language), 0.0, float(attention))
        tower = 2 * len(lengths) * ((patches + 1) * self.tower + patches * self.patching)
        attention += 4 * len(lengths) * (patches + 1) ** 2 * self.tower_attention
        return Work(float(language), float(tower), float(attention))


def ceiling(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of large square products: the best of several half seconds."""
    side = 8192 if device.type == "cuda" else 1024
    one, other = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    best, count = 0.0, 0
    end = time.perf_counter() + 3
    while time.perf_counter() < end:
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < 0.5:
            for _ in range(8):
                one @ other
            count += 8
            if device.type == "cuda":
                torch.cuda.synchronize(device)
        best = max(best, 2 * side**3 * count / (time.perf_counter() - start))
    return best
