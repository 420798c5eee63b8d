"""Image files of every format that is decoded, thin ones too, and what an encoder makes of them."""

import random
from pathlib import Path

from fedcmp.data.images import FORMATS, decode_image
from fedcmp.model.vision import VisionEncoder
from tools.fuzz.mutations import damaged_bytes
from tools.fuzz.pairs import image_file
from tools.fuzz.running import Fault

_MAX_PIXELS = 2**24
_SIZES = ((6, 5), (40, 33), (1, 1), (1, 900), (900, 1))
_MODES = {"PNG": ("RGB", "RGBA", "P", "L", "LA", "1", "I;16"), "JPEG": ("RGB", "L", "CMYK"), "GIF": ("P", "RGB")}
_MODES |= {"TIFF": ("RGB", "L", "I;16", "F", "CMYK", "LAB", "P"), "WEBP": ("RGB", "RGBA"), "BMP": ("RGB", "L", "1")}
_MODES |= {"PPM": ("RGB", "L", "1")}


class Images:
    """One image."""

    name = "images"
    refusals: tuple[type[Exception], ...] = ()

    def __init__(self, work: Path) -> None:
        del work
        self._encoder = VisionEncoder("world", device="cpu")
        self._whole = tuple(
            image for format in FORMATS for mode in _MODES.get(format, ("RGB",)) for image in _of(format, mode)
        )

    def make(self, draw: random.Random) -> bytes:
        """Return an image with damaged bytes."""
        return damaged_bytes(draw, draw.choice(self._whole), self._whole)

    def feed(self, data: bytes) -> bool:
        """Decode it and resize it as a run does."""
        image = decode_image(data, max_pixels=_MAX_PIXELS)
        if image.mode != "RGB" or min(image.size) < 1 or len(image.tobytes()) != 3 * image.width * image.height:
            raise Fault(f"{image}: not an RGB image")
        pixels = self._encoder.pixel_values([image])
        if not bool(pixels.isfinite().all()):
            raise Fault(f"{image}: its pixel values are not finite")
        return True


def _of(format: str, mode: str) -> list[bytes]:
    try:
        return [image_file(len(mode), format, size, mode) for size in _SIZES]
    except (OSError, ValueError, KeyError):  # this build of Pillow does not write it
        return []
