"""Tiles and styles to pixels, by integer arithmetic on whole batches.

Shapes: B pictures, 48 x 48 pixels, 3 channels.
"""

import numpy as np
from numpy.typing import NDArray

from fedcmp.world.atlas import BACKGROUNDS, GRID, SIDE, TILE, Atlas, atlas
from fedcmp.world.words import COLOR_VALUES, STYLES

# per style: background, strength of the smooth shade, standard deviation of the noise (all of 255)
_BACKGROUND = {
    "photo": (184, 178, 168),
    "sketch": (247, 247, 242),
    "night": (15, 18, 36),
    "negative": (184, 178, 168),
    "noisy": (140, 140, 140),
    "painting": (237, 224, 199),
}
_SHADE = {"photo": 41, "sketch": 5, "night": 13, "negative": 41, "noisy": 25, "painting": 18}
_NOISE = {"photo": 8, "sketch": 4, "night": 8, "negative": 8, "noisy": 51, "painting": 10}
COLORS = np.array(list(COLOR_VALUES.values()), np.int32)
_PER_STYLE = [np.array([table[style] for style in STYLES], np.int32) for table in (_BACKGROUND, _SHADE, _NOISE)]


def render(
    tiles_B9: NDArray[np.int64], colors_B9: NDArray[np.int64], styles_B: NDArray[np.int64], draws_BS: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """Draw pictures.

    Args:
        tiles_B9: (B, 9) numbers into the atlas.
        colors_B9: (B, 9) numbers into words.COLORS.
        styles_B: (B,) numbers into words.STYLES.
        draws_BS: (B, 48) the scenes' random integers; slots 40 to 43 are used.

    Returns:
        (B, 48, 48, 3) uint8, RGB.
    """
    sprites, count = atlas(), len(tiles_B9)
    background, shade, noise = (table[styles_B] for table in _PER_STYLE)

    sketch = styles_B == STYLES.index("sketch")
    alpha = sprites.filled[tiles_B9]
    alpha[sketch] = sprites.outline[tiles_B9[sketch]]
    alpha = joined(alpha, count)

    color = COLORS[colors_B9].reshape(count, GRID, GRID, 3)
    color = color * brightness(draws_BS) >> 8
    painting = styles_B == STYLES.index("painting")
    color[painting] = (color[painting] * 3 >> 2) + 56
    color = color.repeat(TILE, 1).repeat(TILE, 2)

    pixels = ground(sprites, draws_BS, background, shade)
    color -= pixels
    color *= alpha
    color >>= 8
    pixels += color
    add_grain(pixels, sprites, draws_BS, noise)
    pixels[painting] = _blurred(_blurred(pixels[painting]))
    negative = styles_B == STYLES.index("negative")
    pixels[negative] = 255 - pixels[negative]
    return np.clip(pixels, 0, 255, out=pixels).astype(np.uint8)


def brightness(draws_BS: NDArray[np.int64]) -> NDArray[np.int32]:
    """(B, 1, 1, 1) how bright the objects are, of 256: .82 to 1."""
    return 210 + draws_BS[:, 40, None, None, None].astype(np.int32) % 47


def joined(tiles: NDArray[np.int32], count: int) -> NDArray[np.int32]:
    """(B, 9, 16, 16) tiles as (B, 48, 48, 1) alpha."""
    return tiles.reshape(count, GRID, GRID, TILE, TILE).transpose(0, 1, 3, 2, 4).reshape(count, SIDE, SIDE, 1)


def ground(
    sprites: Atlas, draws_BS: NDArray[np.int64], background_B3: NDArray[np.int32], shade_B: NDArray[np.int32]
) -> NDArray[np.int32]:
    """(B, 48, 48, 3) a style's background under a smooth shade."""
    pixels: NDArray[np.int32] = sprites.shade[draws_BS[:, 41] % BACKGROUNDS] * shade_B[:, None, None, None]
    pixels >>= 8
    pixels += background_B3[:, None, None, :]
    return pixels


def add_grain(
    pixels: NDArray[np.int32], sprites: Atlas, draws_BS: NDArray[np.int64], noise_B: NDArray[np.int32]
) -> None:
    """Add a style's noise, every other time mirrored."""
    grain = sprites.noise[draws_BS[:, 42] % BACKGROUNDS]
    mirrored = draws_BS[:, 43] % 2 == 1
    grain[mirrored] = grain[mirrored, ::-1]
    grain *= noise_B[:, None, None, None]
    grain >>= 8
    pixels += grain


def _blurred(pixels: NDArray[np.int32]) -> NDArray[np.int32]:
    """A 3 x 3 mean, wrapped around the edges."""
    for axis in (1, 2):
        pixels = (pixels + np.roll(pixels, 1, axis) + np.roll(pixels, -1, axis)) // 3
    return pixels
