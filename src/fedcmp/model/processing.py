"""An encoder and its image processor tried out together before images are encoded.

A processor must make the same square of every image, of the tower's size, in finite numbers. One that keeps the aspect
ratio, that belongs to another model, or whose mean has another length than the channels is found here.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fedcmp.errors import UserError, shortage
from fedcmp.model.locations import first_line

_FILE = "preprocessor_config.json"


def check_layers(place: str, wanted: Sequence[int], count: int) -> list[int]:
    """Return the indices of the layers that are read, counted from the embeddings.

    Args:
        place: what the encoder is called, for the error.
        wanted: layers as model.vision_layer names them: -1 is the last.
        count: layers of the encoder.

    Raises:
        UserError: a layer that it does not have.
    """
    indices = [layer if layer >= 0 else count + 1 + layer for layer in wanted]
    for layer, index in zip(wanted, indices, strict=True):
        if not 0 < index <= count:
            raise UserError(f"model.vision_layer = {layer}: {place} has {count} layers; use -{count} to -1")
    return indices


def processed(processor: Any, side: int, place: str) -> Tensor:
    """Process images of several shapes alone and check that all come out alike.

    Args:
        processor: of transformers.
        side: the tower's own.
        place: the recipe key and value, for errors.

    Returns:
        (1, 3, height, width) pixel values of one of them.

    Raises:
        UserError: it cannot process an image, keeps the aspect ratio, or makes numbers that are not finite.
    """
    found = [_pixels(processor, size, place) for size in ((side, side), (2 * side, side), (side, 2 * side + 1))]
    square, *others = (tuple(pixels.shape[-2:]) for pixels in found)
    for size, other in zip(("2:1", "1:2"), others, strict=True):
        if other != square:
            raise UserError(
                f"{place}: its image processor keeps the aspect ratio: a square image becomes {_times(square)} pixels, "
                f"one of {size} {_times(other)}; set do_center_crop and crop_size, or size with height and width, in "
                f"{_FILE}"
            )
    return found[0]


def check_features(tokens_of: Callable[[Tensor], Tensor], pixels: Tensor, side: int, place: str) -> Tensor:
    """Encode one processed image.

    Args:
        tokens_of: the tower: (B, 3, height, width) pixel values to (B, tokens, V).
        pixels: of one image.
        side: the tower's own size.
        place: the recipe key and value, for errors.

    Returns:
        (1, tokens, V), finite.

    Raises:
        UserError: the tower takes images of another size, or its features are not finite.
    """
    try:
        tokens = tokens_of(pixels)
    except Exception as error:  # a ValueError of its own, or whatever a product of wrong shapes raises
        if shortage(error) is not None:
            raise
        made = tuple(pixels.shape[-2:])
        if made == (side, side):
            raise UserError(f"{place}: its tower cannot encode an image ({first_line(error)})") from error
        raise UserError(
            f"{place}: its image processor makes {_times(made)} pixels, its tower takes {_times((side, side))}; use "
            f"the processor of the same model, or set size and crop_size to {side} in {_FILE}"
        ) from error
    if not tokens.isfinite().all():
        if tokens.dtype == torch.float16:
            raise UserError(
                f"model.dtype = 'float16': numbers of {place} overflow in it; set model.dtype = \"bfloat16\" or "
                '"float32"'
            )
        raise UserError(f"{place}: its features are not finite; its weights are damaged: get the checkpoint again")
    return tokens


def _pixels(processor: Any, size: tuple[int, int], place: str) -> Tensor:
    noise = np.random.RandomState(0).randint(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    try:
        with np.errstate(all="ignore"):  # what is not finite is refused below
            pixels: Tensor = processor(images=[Image.fromarray(noise)], return_tensors="pt")["pixel_values"]
        shape = tuple(pixels.shape)
    except Exception as error:  # whatever an image processor objects to
        if shortage(error) is not None:
            raise
        raise UserError(
            f"{place}: its image processor fails on an image of {_times(size[::-1])} pixels ({first_line(error)}); "
            f"correct its {_FILE}"
        ) from error
    if len(shape) != 4 or shape[1] != 3:
        raise UserError(
            f"{place}: its image processor makes {shape} of one image instead of (1, 3, height, width); use a model "
            "with one image of three channels"
        )
    if not pixels.isfinite().all():
        raise UserError(f"{place}: its image processor makes numbers that are not finite; correct image_std in {_FILE}")
    return pixels


def _times(size: tuple[int, ...]) -> str:
    height, width = size
    return f"{width} x {height}"
