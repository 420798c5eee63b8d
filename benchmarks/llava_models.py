"""What llava_gpu.py measures: LLaVA architectures with random weights, made on the device, and their arithmetic.

Shapes: N samples, P visual tokens, T caption tokens.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
)

from fedcmp.data.prepared import PreparedPairs, TokenTable
from fedcmp.model.projector import Projector

START, END, SEPARATOR = 1, 2, 13  # of Vicuna's tokenizer: <s>, </s> and a line break


@dataclass(frozen=True)
class Architecture:
    """Sizes of the frozen parts.

    Attributes:
        text: config of the LLM.
        vision: config of the tower.
        batch_size: samples a client and step.
    """

    text: PreTrainedConfig
    vision: CLIPVisionConfig
    batch_size: int

    @property
    def patches(self) -> int:
        """P."""
        return int((self.vision.image_size // self.vision.patch_size) ** 2)


def _large_tower() -> CLIPVisionConfig:
    """CLIP ViT-L/14 at 336 pixels."""
    return CLIPVisionConfig(
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=24,
        num_attention_heads=16,
        image_size=336,
        patch_size=14,
        projection_dim=768,
    )


def architecture(size: str) -> Architecture:
    """'7b' (Vicuna-7B's and LLaVA-1.5's), '0.5b' (Qwen2-0.5B's) or 'tiny'."""
    if size == "7b":
        text: PreTrainedConfig = LlamaConfig(
            vocab_size=32064,  # as llava-1.5-7b-hf: 32,000 and room for <image>
            hidden_size=4096,
            intermediate_size=11008,
            num_hidden_layers=32,
            num_attention_heads=32,
            max_position_embeddings=4096,
            rms_norm_eps=1e-5,
        )
        return Architecture(text, _large_tower(), batch_size=16)
    if size == "0.5b":
        text = Qwen2Config(
            vocab_size=151936,
            hidden_size=896,
            intermediate_size=4864,
            num_hidden_layers=24,
            num_attention_heads=14,
            num_key_value_heads=2,
            max_position_embeddings=32768,
            tie_word_embeddings=False,
        )
        return Architecture(text, _large_tower(), batch_size=32)
    text = LlamaConfig(
        vocab_size=512,
        hidden_size=128,
        intermediate_size=352,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=256,
    )
    vision = CLIPVisionConfig(
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=48,
        patch_size=12,
        projection_dim=64,
    )
    return Architecture(text, vision, batch_size=8)


def build(sizes: Architecture, device: torch.device, dtype: torch.dtype) -> LlavaForConditionalGeneration:
    """Random weights of transformers' own initialisation, never on the CPU nor in a file."""
    config = LlavaConfig(
        vision_config=copy.deepcopy(sizes.vision),
        text_config=copy.deepcopy(sizes.text),
        image_token_index=sizes.text.vocab_size - 1,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        image_seq_length=sizes.patches,
    )
    torch.manual_seed(0)
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            model = LlavaForConditionalGeneration(config)
    finally:
        torch.set_default_dtype(default)
    model.eval().requires_grad_(False)
    return model


def causal_lm(llava: LlavaForConditionalGeneration) -> PreTrainedModel:
    """The LLM alone, with the same weights in the same memory."""
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(llava.config.text_config)
    model.model, model.lm_head = llava.model.language_model, llava.lm_head
    return model.eval()


def tower_below(llava: LlavaForConditionalGeneration) -> nn.Module:
    """The vision tower up to the layer that is read, with the same weights in the same memory."""
    whole = llava.model.vision_tower
    config = copy.deepcopy(whole.config)
    config.num_hidden_layers -= 1
    with torch.device("meta"):
        tower = CLIPVisionModel(config)
    wanted = tower.state_dict().keys()
    tower.load_state_dict({name: t for name, t in whole.state_dict().items() if name in wanted}, assign=True)
    tower.embeddings.position_ids = whole.embeddings.position_ids
    return tower.eval().requires_grad_(False)


def own_projector(llava: LlavaForConditionalGeneration) -> Projector:
    """Ours, in float32, with the weights of transformers' projector."""
    theirs = llava.model.multi_modal_projector
    projector = Projector(theirs.linear_1.in_features, theirs.linear_1.out_features)
    projector.load_state_dict({name: t.float().cpu() for name, t in theirs.state_dict().items()})
    return projector


class Pictures:
    """Features computed in passing: pictures from the CPU's memory through the tower, nothing kept."""

    def __init__(self, pixels: Tensor, tower: nn.Module, device: torch.device) -> None:
        self.dtype, self._pixels, self._tower, self._device = pixels.dtype, pixels, tower, device

    @torch.no_grad()
    def features(self, indices: np.ndarray) -> Tensor:
        pixels = self._pixels[torch.as_tensor(indices)].to(self._device)
        out: Tensor = self._tower(pixels).last_hidden_state[:, 1:]
        return out

    def gather(self, indices: np.ndarray) -> tuple[np.ndarray, Tensor]:
        return np.asarray(indices), self.features(indices)


class Stored:
    """Features computed once and kept in the CPU's memory, in float16, as the feature store does."""

    dtype = torch.float16

    def __init__(self, pictures: Pictures, count: int) -> None:
        chunks = [pictures.features(part).to("cpu", self.dtype) for part in np.array_split(np.arange(count), count)]
        self._features = torch.cat(chunks)

    def features(self, indices: np.ndarray) -> Tensor:
        return self._features[torch.as_tensor(indices)]

    def gather(self, indices: np.ndarray) -> tuple[np.ndarray, Tensor]:
        return np.asarray(indices), self.features(indices)


def synthetic(sizes: Architecture, count: int, dtype: torch.dtype) -> tuple[Tensor, list[list[int]]]:
    """(N, 3, side, side) noise for pictures; captions of 12 to 36 tokens with their end, as long as LLaVA's are."""
    generator = torch.Generator().manual_seed(1)
    side, vocabulary = sizes.vision.image_size, sizes.text.vocab_size
    pixels = torch.randn(count, 3, side, side, generator=generator).to(dtype)
    lengths = torch.randint(12, 37, (count,), generator=generator).tolist()
    captions = [
        [*torch.randint(20, vocabulary - 1, (length - 1,), generator=generator).tolist(), END] for length in lengths
    ]
    return pixels, captions


def pairs_of(features: Pictures | Stored, captions: Sequence[Sequence[int]]) -> PreparedPairs:
    count = len(captions)
    return PreparedPairs(features, np.arange(count), TokenTable.of(captions), ["all"] * count, END)


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
