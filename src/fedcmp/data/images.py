"""Picture files to upright 8-bit RGB, whatever they hold.

    transparency       composed on white
    EXIF orientation   applied
    animation          first frame
    16-bit grey        0..65535 scaled to 0..255
    32-bit grey        as 0..255 if it fits there, as 0..65535 if it fits there, else its own range stretched
    float grey         as 0..1 if it fits there, else like 32-bit grey
    CMYK, YCbCr, HSV   Pillow's conversion (CMYK JPEGs are read as inverted, as all known writers store them)
    LAB                through sRGB's profile (D50)

Colour profiles are not applied. The number of pixels is checked on the header, before anything is decoded.
"""

import io
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from fedcmp.data.quality import BadPair
from fedcmp.files import is_pointer

DEFAULT_MAX_PIXELS = 89_478_485  # Pillow's own limit: about 256 MB of RGB

# Only formats that are decoded in process and recognised by their first bytes (EPS, for one, would start Ghostscript).
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM")
_FIRST_BYTES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")
_ORIENTATION = 0x0112


class BadImage(BadPair):
    """A picture that cannot be used; see `quality` for the words of `reason`."""


def decode_image(data: bytes, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> Image.Image:
    """Decode a picture file.

    Args:
        data: the file's bytes, of any format in FORMATS.
        max_pixels: largest width x height that is decoded; never more than Pillow's own hard limit (twice the
            default).

    Returns:
        The picture upright, in mode RGB, fully loaded.

    Raises:
        BadImage: "empty file", "not an image", "truncated", "damaged", "too large" or "unsupported mode".
    """
    if not data:
        raise BadImage("empty file")
    if is_pointer(data):
        raise BadImage("git-lfs pointer", "the image itself is not here")
    try:
        image: Image.Image = Image.open(io.BytesIO(data), formats=_formats())
        width, height = image.size
        if width * height > max_pixels:
            raise BadImage("too large", f"{width} x {height} pixels")
        if width < 1 or height < 1:
            raise BadImage("damaged", f"{width} x {height} pixels")
        image.load()
    except BadImage:
        raise
    except UnidentifiedImageError:
        known = data.startswith(_FIRST_BYTES) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP")
        raise BadImage("damaged" if known else "not an image") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError) as error:
        raise BadImage("too large", str(error)) from None
    except Exception as error:  # hostile bytes make Pillow's decoders raise nearly any kind
        reason = "truncated" if isinstance(error, EOFError) or "truncated" in str(error).lower() else "damaged"
        raise BadImage(reason, f"{type(error).__name__}: {error}") from None
    return to_rgb(_upright(image))


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert a loaded picture of any Pillow mode to RGB by the rules of the module's list.

    Raises:
        BadImage: "unsupported mode".
    """
    mode = image.mode
    if mode == "RGB" and "transparency" not in image.info:
        return image
    try:
        if mode.startswith(("I", "F")):
            return _grey_to_rgb(image)
        if mode == "LAB":
            converted = ImageCms.applyTransform(image, _lab_to_srgb())
            assert converted is not None  # only with inPlace
            return converted
        if mode in ("La", "RGBa") or image.has_transparency_data:
            # Pillow turns premultiplied grey into LA only
            rgba = (image.convert("LA") if mode == "La" else image).convert("RGBA")
            return Image.alpha_composite(Image.new("RGBA", image.size, "white"), rgba).convert("RGB")
        return image.convert("RGB")
    except (ValueError, OSError, ImageCms.PyCMSError) as error:
        raise BadImage("unsupported mode", f"{mode}: {error}") from None


def _upright(image: Image.Image) -> Image.Image:
    try:
        if image.getexif().get(_ORIENTATION, 1) == 1:
            return image
        return ImageOps.exif_transpose(image)
    except Exception:  # a picture with broken EXIF data is shown as stored, as viewers do
        return image


def _grey_to_rgb(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    sixteen_bit = image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM")
    grey = _to_8_bit(values, sixteen_bit=sixteen_bit)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey = np.where(values == transparent, np.uint8(255), grey)
    return Image.fromarray(grey).convert("RGB")


def _to_8_bit(values: NDArray[np.generic], *, sixteen_bit: bool) -> NDArray[np.uint8]:
    """(height, width) numbers of any range to 0..255; NaN becomes the smallest value, infinities the ends."""
    x = values.astype(np.float64)
    finite = x[np.isfinite(x)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    if sixteen_bit:
        low, high = 0.0, 65535.0
    elif low >= 0:
        ends = [255.0, 65535.0]
        if values.dtype.kind == "f":
            ends.insert(0, 1.0)
        if fitting := [end for end in ends if high <= end]:
            low, high = 0.0, fitting[0]
    x = np.nan_to_num(x, nan=low, posinf=high, neginf=low)
    return np.rint((x - low) * (255.0 / ((high - low) or 1.0))).astype(np.uint8)


@cache
def _formats() -> tuple[str, ...]:
    """FORMATS, less what this build of Pillow lacks."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


@cache
def _lab_to_srgb() -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")
