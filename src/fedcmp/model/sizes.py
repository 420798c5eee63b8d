"""How large the frozen parts are, from their config.json alone: no weight is read or made.

The model is built on torch's meta device, which gives every tensor a shape and no memory, so tied and dropped weights
count as they do when it is loaded. Shapes: P patches, V vision width, D text width.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoModelForCausalLM

from fedcmp.errors import UserError
from fedcmp.model.hub import cached_folder
from fedcmp.model.locations import BUILDING, first_line, load, resolve
from fedcmp.model.processing import check_layers
from fedcmp.model.text_format import KEY as LANGUAGE_KEY
from fedcmp.model.vision import KEY as VISION_KEY


@dataclass(frozen=True)
class VisionSize:
    """Of an encoder.

    Attributes:
        loaded: parameters while it is loaded; a dual encoder's text half is among them.
        tower: parameters that stay: the tower up to the layer that is read.
        patches: P that the projector sees.
        width: V.
        inner: width of its MLP's inner layer.
        heads: of its attention.
        side: of the square images that it takes, in pixels.
    """

    loaded: int
    tower: int
    patches: int
    width: int
    inner: int
    heads: int
    side: int = 0


@dataclass(frozen=True)
class LanguageSize:
    """Of an LLM.

    Attributes:
        parameters: tied ones once.
        layers: number of blocks.
        width: D.
        queries: width of all query heads together.
        inner: width of an MLP's inner layer.
        vocabulary: rows of the output layer.
    """

    parameters: int
    layers: int
    width: int
    queries: int
    inner: int
    vocabulary: int


class UnknownSizeError(Exception):
    """A config that is not here, or of a kind whose size cannot be estimated; the message says why."""


class NoConfigError(UnknownSizeError):
    """A config that cannot be had: the model itself will not load either."""


def vision_size(name: str, *, layer: int | list[int] = -2, strategy: str = "auto") -> VisionSize:
    """Return the size of an encoder, as `VisionEncoder` would use it.

    Args:
        name: model.vision.
        layer: model.vision_layer.
        strategy: model.vision_strategy.

    Raises:
        UserError: no such folder, or no such layer.
        NoConfigError: its config cannot be had.
        UnknownSizeError: its config is not an encoder's.
    """
    config = _config(name, "vision")
    own = getattr(config, "vision_config", config)
    wanted = layer if isinstance(layer, list) else [layer]
    # of a LLaVA folder only the tower is loaded
    model = _on_meta(AutoModel, own if config.model_type == "llava" else config, VISION_KEY, name)
    tower: nn.Module = getattr(model, "vision_model", model)
    try:
        side = int(_side(name, own))
        grid = (side // own.patch_size) ** 2
        width, inner, heads = int(own.hidden_size), int(_inner(own)), int(own.num_attention_heads)
        count = int(own.num_hidden_layers)
    except (AttributeError, TypeError) as error:
        raise UnknownSizeError(f"{VISION_KEY} = {name!r}: no image encoder's config ({error})") from error
    indices = check_layers(repr(name), wanted, count)
    loaded = _parameters(model)
    encoder = getattr(tower, "encoder", None)
    layers = getattr(encoder, "layers", getattr(encoder, "layer", None))
    if isinstance(layers, nn.ModuleList) and len(layers) == count:
        del layers[max(indices) :]
    before = 0
    for tensor, parameter in tower.named_parameters():
        if tensor.endswith(("class_embedding", "cls_token")):
            before += 1
        elif tensor.endswith("register_tokens"):  # (1, how many, V)
            before += parameter.shape[1]
    patches = grid + before if strategy == "full" else grid
    return VisionSize(loaded, _parameters(tower), patches, width * len(wanted), inner, heads, side)


def language_size(name: str) -> LanguageSize:
    """Return the size of an LLM.

    Args:
        name: model.language.

    Raises:
        UserError: no such folder.
        NoConfigError: its config cannot be had.
        UnknownSizeError: its config is not a causal LM's.
    """
    config = _config(name, "language").get_text_config()
    model = _on_meta(AutoModelForCausalLM, config, LANGUAGE_KEY, name)
    try:
        width = int(model.get_input_embeddings().weight.shape[1])
        heads = int(config.num_attention_heads)
        head = int(getattr(config, "head_dim", None) or config.hidden_size // heads)
        sizes = (int(config.num_hidden_layers), width, heads * head, int(_inner(config)), int(config.vocab_size))
    except (AttributeError, TypeError) as error:
        raise UnknownSizeError(f"{LANGUAGE_KEY} = {name!r}: no causal LM's config ({error})") from error
    return LanguageSize(_parameters(model), *sizes)


def _config(name: str, part: Any) -> Any:
    key = VISION_KEY if part == "vision" else LANGUAGE_KEY
    where = resolve(name, part, key)
    if not Path(where).is_dir():
        where = str(cached_folder(where) or where)
    try:
        return load(AutoConfig, where, key)
    except UserError as error:
        raise NoConfigError(str(error)) from error


def _side(name: str, own: Any) -> int:
    """Return the pixels per side that the image processor makes, if there is one: DINOv2's are not its config's."""
    where = Path(resolve(name, "vision", VISION_KEY))
    if not where.is_dir():
        return int(own.image_size)
    try:
        processor = load(AutoImageProcessor, str(where), VISION_KEY)
    except UserError:  # reported where the encoder is loaded
        return int(own.image_size)
    crop, size = getattr(processor, "crop_size", None), getattr(processor, "size", None)
    made = crop if crop and getattr(processor, "do_center_crop", False) else size
    return int(getattr(made, "height", None) or own.image_size)


def _on_meta(factory: Any, config: Any, key: str, name: str) -> Any:
    try:
        with BUILDING, torch.device("meta"):
            return factory.from_config(config, trust_remote_code=False)
    except Exception as error:  # whatever an architecture's constructor objects to
        raise UnknownSizeError(f"{key} = {name!r}: cannot be built from its config ({first_line(error)})") from error


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _inner(config: Any) -> int:
    """Return the MLP's inner width under the names that configs give it; four times the width where they give none."""
    for key in ("intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size"):
        if getattr(config, key, None):
            return int(getattr(config, key))
    return 4 * int(config.hidden_size)
