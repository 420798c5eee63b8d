"""Every kind of picture file, against pixels known beforehand."""

import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from fedcmp.data.images import BadImage, decode_image, to_rgb

from .helpers import encoded, picture

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # of its TIFF reader about broken tags

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def uniform(image: Image.Image, colour: tuple[int, int, int], tolerance: int = 0) -> bool:
    pixels = np.asarray(image).astype(int)
    return image.mode == "RGB" and bool((np.abs(pixels - colour) <= tolerance).all())


def reason_of(data: bytes, **options: int) -> str:
    with pytest.raises(BadImage) as caught:
        decode_image(data, **options)
    return caught.value.reason


@pytest.mark.parametrize(
    ("mode", "colour", "expected", "tolerance"),
    [
        ("1", 1, WHITE, 0),
        ("L", 77, (77, 77, 77), 0),
        ("LA", (0, 128), (127, 127, 127), 1),
        ("La", (0, 128), (127, 127, 127), 1),
        ("RGB", (1, 2, 3), (1, 2, 3), 0),
        ("RGBA", (255, 0, 0, 0), WHITE, 0),
        ("RGBA", (255, 0, 0, 102), (255, 153, 153), 1),
        ("RGBa", (102, 0, 0, 102), (255, 153, 153), 1),
        ("RGBX", (9, 8, 7, 0), (9, 8, 7), 0),
        ("CMYK", (0, 255, 255, 0), RED, 0),
        ("YCbCr", (76, 85, 255), RED, 2),
        ("HSV", (170, 255, 255), BLUE, 2),
        ("I", 40, (40, 40, 40), 0),
        ("I", 32768, (128, 128, 128), 1),
        ("I;16", 32768, (128, 128, 128), 1),
        ("I;16", 100, (0, 0, 0), 0),
        ("I;16B", 65535, WHITE, 0),
        ("I;16L", 257, (1, 1, 1), 0),
        ("F", 0.5, (128, 128, 128), 1),
        ("F", 200.0, (200, 200, 200), 0),
        ("F", 32768.0, (128, 128, 128), 1),
    ],
)
def test_every_mode(mode: str, colour: object, expected: tuple[int, int, int], tolerance: int) -> None:
    assert uniform(to_rgb(Image.new(mode, (5, 4), colour)), expected, tolerance)


def test_palettes() -> None:
    plain = Image.new("P", (4, 4), 1)
    plain.putpalette([0, 0, 0, 255, 0, 0])
    assert uniform(decode_image(encoded(plain)), RED)
    assert uniform(decode_image(encoded(plain, transparency=1)), WHITE)
    assert uniform(decode_image(encoded(plain, transparency=b"\xff\x80")), (255, 127, 127), 1)
    assert uniform(to_rgb(plain.convert("PA")), RED)


def test_lab_file() -> None:
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    to_lab = ImageCms.buildTransform(*profiles, "RGB", "LAB")
    lab = ImageCms.applyTransform(Image.new("RGB", (4, 4), (200, 60, 30)), to_lab)
    assert lab.mode == "LAB"
    assert uniform(decode_image(encoded(lab, "TIFF")), (200, 60, 30), 3)


def test_sixteen_bit_grey_png_is_scaled_not_clipped() -> None:
    ramp = np.array([[0, 256, 32768, 65535]], np.uint16)
    grey = np.asarray(decode_image(encoded(Image.fromarray(ramp))))
    assert grey[0, :, 0].tolist() == [0, 1, 128, 255]
    assert (grey[..., :1] == grey).all()


def test_sixteen_bit_grey_with_a_transparent_value() -> None:
    data = encoded(Image.fromarray(np.array([[0, 1000]], np.uint16)))
    chunk = b"tRNS" + struct.pack(">H", 1000)
    at = data.index(b"IDAT") - 4
    data = data[:at] + struct.pack(">I", 2) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[at:]
    assert np.asarray(decode_image(data))[0, :, 0].tolist() == [0, 255]


def test_a_dark_sixteen_bit_pgm_stays_dark() -> None:
    dark = b"P5 2 1 65535\n" + struct.pack(">HH", 100, 200)
    assert uniform(decode_image(dark), (0, 0, 0), 1)


def test_float_and_integer_ranges_are_stretched_where_nothing_fits() -> None:
    values = np.array([[-1.0, 0.0, 1.0, np.nan, np.inf, -np.inf]], np.float32)
    assert np.asarray(to_rgb(Image.fromarray(values)))[0, :, 0].tolist() == [0, 128, 255, 0, 255, 0]
    wide = np.array([[-500, 0, 500]], np.int32)
    assert np.asarray(decode_image(encoded(Image.fromarray(wide), "TIFF")))[0, :, 0].tolist() == [0, 128, 255]
    assert uniform(to_rgb(Image.fromarray(np.full((2, 2), np.nan, np.float32))), (0, 0, 0))


def test_grey_with_a_transparent_value_and_with_alpha() -> None:
    assert uniform(decode_image(encoded(Image.new("L", (3, 3), 9), transparency=9)), WHITE)
    assert uniform(decode_image(encoded(Image.new("RGB", (3, 3), RED), transparency=RED)), WHITE)
    assert uniform(decode_image(encoded(Image.new("LA", (3, 3), (0, 0)))), WHITE)


def test_cmyk_jpeg_is_not_negative() -> None:
    data = encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95)
    assert b"Adobe" in data  # hence stored inverted
    assert uniform(decode_image(data), RED, 4)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM"])
def test_plain_files(format: str) -> None:
    image = Image.new("RGB", (20, 10), (40, 80, 160))
    back = decode_image(encoded(image, format))
    assert back.size == (20, 10)
    assert uniform(back, (40, 80, 160), 4)


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG"])
def test_animations_give_their_first_frame(format: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, BLUE)]
    options = {"lossless": True} if format == "WEBP" else {}
    data = encoded(frames[0], format, save_all=True, append_images=frames[1:], duration=100, **options)
    assert uniform(decode_image(data), RED, 1)


# How the sensor's rows and columns lie for each EXIF orientation (Exif 2.3, tag 0x0112), from the upright picture.
STORED = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: upright.swapaxes(0, 1)[::-1],
    7: lambda upright: upright.swapaxes(0, 1)[::-1, ::-1],
    8: lambda upright: upright.swapaxes(0, 1)[:, ::-1],
}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation: int) -> None:
    upright = np.asarray(picture(1, (3, 2)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](upright)))
    np.testing.assert_array_equal(decode_image(encoded(stored, exif=exif)), upright)
    blocks = stored.resize((stored.width * 16, stored.height * 16), Image.Resampling.NEAREST)
    jpeg = decode_image(encoded(blocks, "JPEG", exif=exif, quality=95, subsampling=0))
    assert jpeg.size == (48, 32)
    np.testing.assert_allclose(np.asarray(jpeg)[8::16, 8::16].astype(int), upright, atol=12)


def test_orientation_of_a_transparent_palette_and_of_grey() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    strip = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    strip.putpalette([255, 0, 0, 0, 0, 255])
    turned = decode_image(encoded(strip, exif=exif, transparency=0))
    np.testing.assert_array_equal(np.asarray(turned)[:, 0], [WHITE, BLUE])
    grey = Image.fromarray(np.array([[0, 65535]], np.uint16))
    assert np.asarray(decode_image(encoded(grey, exif=exif)))[:, 0, 0].tolist() == [0, 255]


def test_broken_exif_is_ignored() -> None:
    data = encoded(Image.new("RGB", (8, 8), RED), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert uniform(decode_image(data), RED, 4)


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_cut_files_are_truncated(format: str) -> None:
    data = encoded(picture(2, (64, 64)), format)
    for share in (0.4, 0.6, 0.9):
        assert reason_of(data[: int(len(data) * share)]) == "truncated"
    assert reason_of(data[:20]) in ("truncated", "damaged")


@pytest.mark.parametrize("format", ["GIF", "WEBP", "TIFF", "BMP"])
def test_other_cut_files_are_refused(format: str) -> None:
    data = encoded(picture(2, (64, 64)), format)
    assert reason_of(data[: len(data) // 2]) in ("truncated", "damaged")


def test_what_is_no_picture() -> None:
    assert reason_of(b"") == "empty file"
    assert reason_of(b"this is a text named .jpg\n" * 9) == "not an image"
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"
    assert reason_of(pointer) == reason_of(b"/annex/objects/SHA256E-s12--ab.jpg\n") == "git-lfs pointer"
    assert reason_of(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n") == "not an image"
    assert reason_of(b"<svg xmlns='http://www.w3.org/2000/svg'/>") == "not an image"


def claimed_png(width: int, height: int) -> bytes:
    """A tiny PNG file whose header claims another size."""
    data = encoded(Image.new("L", (1, 1)))
    header = b"IHDR" + struct.pack(">II", width, height) + data[24:29]
    return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]


def test_bombs_are_refused_by_their_header() -> None:
    assert reason_of(claimed_png(50_000, 50_000)) == "too large"
    assert reason_of(claimed_png(101, 100), max_pixels=10_000) == "too large"
    tags = [(256, 100_000), (257, 100_000), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1), (279, 1)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    assert reason_of(b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + b"\0\0\0\0") == "too large"
    assert reason_of(claimed_png(0, 10)) != "too large"


def test_the_limit_itself_is_allowed() -> None:
    data = encoded(Image.new("RGB", (100, 100)))
    assert decode_image(data, max_pixels=10_000).size == (100, 100)
    assert reason_of(data, max_pixels=9_999) == "too large"


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"]), st.integers(0, 10**6), st.binary(max_size=8))
def test_damaged_bytes_never_raise_anything_else(format: str, at: int, noise: bytes) -> None:
    data = encoded(picture(3), format)
    at %= len(data)
    try:
        outcome = decode_image(data[:at] + noise + data[at + len(noise) :], max_pixels=10**6).mode
    except BadImage as bad:
        outcome = bad.reason
    assert outcome in (
        "RGB",
        "empty file",
        "not an image",
        "truncated",
        "damaged",
        "too large",
        "unsupported mode",
        "git-lfs pointer",
    )
