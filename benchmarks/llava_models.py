"""What llava_gpu.py measures: LLaVA architectures with random weights, made on the device, and samples for them.

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


def _sizes(width: int, inner: int, layers: int, heads: int) -> dict[str, int]:
    """Under the names that the configs of CLIP, Llama and Qwen2 have in common."""
    return {
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
    }


def architecture(size: str) -> Architecture:
    """'7b' (Vicuna-7B's and LLaVA-1.5's), '0.5b' (Qwen2-0.5B's), both with CLIP ViT-L/14 at 336 pixels; or 'tiny'."""
    if size == "tiny":
        text: PreTrainedConfig = LlamaConfig(**_sizes(128, 352, 4, 4), vocab_size=512, max_position_embeddings=256)
        vision = CLIPVisionConfig(**_sizes(128, 512, 4, 4), image_size=48, patch_size=12)
        return Architecture(text, vision, batch_size=8)
    vision = CLIPVisionConfig(**_sizes(1024, 4096, 24, 16), image_size=336, patch_size=14)
    if size == "0.5b":
        text = Qwen2Config(
            **_sizes(896, 4864, 24, 14),
            vocab_size=151936,
            num_key_value_heads=2,
            max_position_embeddings=32768,
            tie_word_embeddings=False,
        )
        return Architecture(text, vision, batch_size=32)
    text = LlamaConfig(
        **_sizes(4096, 11008, 32, 32),
        vocab_size=32064,  # as llava-1.5-7b-hf: 32,000 and room for <image>
        max_position_embeddings=4096,
        rms_norm_eps=1e-5,
    )
    return Architecture(text, vision, batch_size=16)


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
    """Features computed in passing: pictures from the CPU's memory through the tower, nothing kept.

    As the package does it: in float16, and by way of the CPU's memory.
    """

    dtype = torch.float16

    def __init__(self, pixels: Tensor, tower: nn.Module, device: torch.device) -> None:
        self._pixels, self._tower, self._device = pixels, tower, device

    @torch.no_grad()
    def features(self, indices: np.ndarray) -> Tensor:
        pixels = self._pixels[torch.as_tensor(indices)].to(self._device)
        out: Tensor = self._tower(pixels).last_hidden_state[:, 1:]
        return out.to("cpu", self.dtype)

    def gather(self, indices: np.ndarray) -> tuple[np.ndarray, Tensor]:
        return np.asarray(indices), self.features(indices)


class Stored:
    """Features computed once and kept in the CPU's memory, in float16, as the feature store does."""

    dtype = torch.float16

    def __init__(self, pictures: Pictures, count: int) -> None:
        chunks = [pictures.features(part) for part in np.array_split(np.arange(count), count)]
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
