"""The sprite atlas: every 16 x 16 tile a picture can be built of, drawn once per process.

Each sprite exists in a few jittered variants and in two forms, filled and outline (for sketches). Alpha is an integer
from 0 to 256, so that pictures are made by integer arithmetic and come out equal on every machine.
"""

import functools
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fedcmp.world import font
from fedcmp.world.randomness import random_integers
from fedcmp.world.words import DIRECTIONS, MOODS, SHAPES, SIZES, TEXTURES

TILE, GRID = 16, 3
SIDE = TILE * GRID
VARIANTS = 6
BACKGROUNDS = 64
OVERSAMPLING = 4
_ATLAS_SEED = 7

Mask = NDArray[np.bool_]
SpriteKey = tuple[str | int, ...]


@dataclass
class Atlas:
    """All tiles.

    Attributes:
        filled: (tiles, 16, 16) int32 alpha, 0 to 256; tile 0 is empty.
        outline: the same shapes as strokes.
        index: sprite key -> tile numbers of its variants, or of its 9 tiles in reading order for pictures as large as
            the whole grid (keys that end in the variant's number).
        noise: (64, 48, 48, 1) int32, about normal with standard deviation 256.
        shade: (64, 48, 48, 3) int32, smooth fields between -256 and 256.
    """

    filled: NDArray[np.int32]
    outline: NDArray[np.int32]
    index: dict[SpriteKey, list[int]]
    noise: NDArray[np.int32]
    shade: NDArray[np.int32]


class Jitter:
    """A stream of small random numbers, the same for ever.

    Args:
        seed: of the stream.
    """

    def __init__(self, seed: int) -> None:
        self._seed, self._position = seed, 0

    def between(self, low: float, high: float) -> float:
        """Draw the next number of [low, high)."""
        draw = int(random_integers(self._seed, np.array([self._position]), 1)[0, 0])
        self._position += 1
        return low + (high - low) * (draw % 4096) / 4096

    def integer(self, low: int, high: int) -> int:
        """Draw the next number of [low, high), rounded down."""
        return int(self.between(low, high))


@dataclass
class AtlasBuilder:
    """Collect tiles; the first is empty."""

    filled: list[NDArray[np.int32]] = field(default_factory=lambda: [np.zeros((TILE, TILE), np.int32)])
    outline: list[NDArray[np.int32]] = field(default_factory=lambda: [np.zeros((TILE, TILE), np.int32)])
    index: dict[SpriteKey, list[int]] = field(default_factory=dict)

    def add_tile(self, key: SpriteKey, mask: Mask, stroke: int = 5) -> None:
        """One variant of a sprite, from its mask at four times the resolution."""
        self.index.setdefault(key, []).append(len(self.filled))
        self.filled.append(_alpha(mask))
        self.outline.append(_alpha(mask & ~_eroded(mask, stroke)))

    def add_picture(self, key: SpriteKey, mask: Mask, stroke: int) -> None:
        """A picture over the whole grid, cut into its nine tiles."""
        filled, outline = _alpha(mask), _alpha(mask & ~_eroded(mask, stroke))
        self.index[key] = list(range(len(self.filled), len(self.filled) + GRID * GRID))
        for row in range(GRID):
            for column in range(GRID):
                window = np.s_[row * TILE : (row + 1) * TILE, column * TILE : (column + 1) * TILE]
                self.filled.append(filled[window])
                self.outline.append(outline[window])

    def finish(self, seed: int) -> Atlas:
        """Return the atlas of all tiles; its noise and shade are of the streams after `seed`."""
        fields = grain(seed + 1), smooth_fields(seed + 2)
        return Atlas(np.stack(self.filled), np.stack(self.outline), self.index, *fields)


def _alpha(mask: Mask) -> NDArray[np.int32]:
    height, width = mask.shape
    f = OVERSAMPLING
    covered = mask.reshape(height // f, f, width // f, f).sum((1, 3), dtype=np.int32)
    alpha: NDArray[np.int32] = (covered * (256 // (f * f))).astype(np.int32)
    return alpha


def _eroded(mask: Mask, radius: int) -> Mask:
    out = mask.copy()
    for dy in range(-radius, radius + 1):
        for dx in range(-radius, radius + 1):
            if dx * dx + dy * dy <= radius * radius:
                out &= np.roll(np.roll(mask, dy, 0), dx, 1)
    return out


def coordinates(side: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return x and y of every point of a square, (side, side) each, in (-1, 1), y downwards."""
    line = (np.arange(side) + 0.5) / side * 2 - 1
    x, y = np.meshgrid(line, line)
    return x, y


def inside(shape: str, x: NDArray[np.float64], y: NDArray[np.float64]) -> Mask:
    """Which points belong to a shape; x and y in [-1, 1], y downwards."""
    radius = np.hypot(x, y)
    if shape == "circle":
        return radius < 1
    if shape == "ring":
        return (radius < 1) & (radius > 0.55)
    if shape == "square":
        return (abs(x) < 0.86) & (abs(y) < 0.86)
    if shape == "diamond":
        return abs(x) * 1.3 + abs(y) < 1
    if shape == "cross":
        return ((abs(x) < 0.32) & (abs(y) < 0.95)) | ((abs(y) < 0.32) & (abs(x) < 0.95))
    if shape == "triangle":
        return (y < 0.8) & (abs(x) < (y + 1) * 0.53)
    if shape == "star":
        fold = np.pi / 5
        angle = abs((np.arctan2(x, -y) + fold) % (2 * fold) - fold)
        return radius * (np.cos(angle) + 1.35 * np.sin(angle)) < 1
    if shape == "heart":
        u, v = x * 1.2, -y * 1.2 + 0.15
        return (u * u + v * v - 1) ** 3 - u * u * v**3 * 2.2 < 0
    if shape == "arrow":  # pointing up
        return ((y < 0) & (abs(x) < (y + 1) * 0.85)) | ((y >= 0) & (y < 0.95) & (abs(x) < 0.28))
    raise KeyError(shape)


def _add_shapes(builder: AtlasBuilder, jitter: Jitter) -> None:
    x0, y0 = coordinates(TILE * OVERSAMPLING)
    kinds: list[tuple[SpriteKey, str, float, float, float]] = [
        ((shape, size), shape, scale, (1 - scale) * 0.75, 0.0)
        for shape in SHAPES
        for size, scale in enumerate((0.42, 0.64, 0.92)[: len(SIZES)])
    ]
    kinds += [(("arrow", way), "arrow", 0.8, 0.1, way * np.pi / 2) for way in range(len(DIRECTIONS))]
    for key, shape, scale, room, turn in kinds:
        for _ in range(VARIANTS):
            size = scale * jitter.between(0.95, 1.02)
            angle = turn + jitter.between(-0.16, 0.16)
            x, y = (x0 - jitter.between(-room, room)) / size, (y0 - jitter.between(-room, room)) / size
            x, y = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
            builder.add_tile(key, inside(shape, x, y))


def add_glyphs(builder: AtlasBuilder, jitter: Jitter) -> None:
    """Add a tile for every variant of every character of the font."""
    side = TILE * OVERSAMPLING
    for character in font.CHARACTERS:
        bitmap = font.glyph(character)
        for _ in range(VARIANTS):
            height, width = jitter.integer(46, 57), jitter.integer(34, 45)
            rows, columns = np.arange(height) * 7 // height, np.arange(width) * 5 // width
            top, left = jitter.integer(2, side - height - 1), (side - width) // 2 + jitter.integer(-5, 6)
            mask = np.zeros((side, side), bool)
            mask[top : top + height, left : left + width] = bitmap[rows][:, columns]
            builder.add_tile(("glyph", character), mask, stroke=3)


def _add_bars(builder: AtlasBuilder) -> None:
    x, y = coordinates(TILE * OVERSAMPLING)
    for level in range(3):  # nothing, half and all of the cell, filled from below
        for variant in range(VARIANTS):
            builder.add_tile(("bar", level), (abs(x) < 0.5 + 0.05 * variant) & (y > 1 - level))


def texture_mask(texture: int, variant: int) -> Mask:
    """Return where a pattern of words.TEXTURES has ink, all over the picture."""
    period = (4, 5.34, 8)[variant % 3] * OVERSAMPLING
    line = np.arange(SIDE * OVERSAMPLING) + variant * 3
    x, y = np.meshgrid(line, line)
    masks: tuple[Mask, ...] = (
        (y // period) % 2 == 0,
        (x // period) % 2 == 0,
        ((x + y) // period) % 2 == 0,
        (x // period + y // period) % 2 == 0,
        np.hypot(x % (2 * period) - period, y % (2 * period) - period) < 0.62 * period,
        (x % (2 * period) < 0.5 * period) | (y % (2 * period) < 0.5 * period),
    )
    return masks[texture]


def _add_textures(builder: AtlasBuilder) -> None:
    for texture in range(len(TEXTURES)):
        for variant in range(VARIANTS):
            builder.add_picture(("texture", texture, variant), texture_mask(texture, variant), stroke=3)


def _add_faces(builder: AtlasBuilder, jitter: Jitter) -> None:
    x0, y0 = coordinates(SIDE * OVERSAMPLING)
    for mood, name in enumerate(MOODS):
        for glasses in (0, 1):
            for variant in range(VARIANTS):
                size = jitter.between(0.8, 0.9)
                x, y = (x0 - jitter.between(-0.08, 0.08)) / size, (y0 - jitter.between(-0.08, 0.08)) / size
                mask = np.hypot(x, y) < 1
                for eye in (-0.38, 0.38):
                    distance = np.hypot(x - eye, y + 0.28)
                    closed = (abs(x - eye) < 0.2) & (abs(y + 0.28) < 0.05)
                    mask &= ~(closed if name == "sleepy" else distance < 0.14)
                    if glasses:
                        mask &= ~((distance < 0.36) & (distance > 0.28))
                builder.add_picture(("face", mood, glasses, variant), mask & ~_mouth(name, x, y), stroke=5)


def _mouth(mood: str, x: NDArray[np.float64], y: NDArray[np.float64]) -> Mask:
    if mood == "happy":
        radius = np.hypot(x, y - 0.15)
        return (radius < 0.58) & (radius > 0.42) & (y > 0.3)
    if mood == "sad":
        radius = np.hypot(x, y - 0.95)
        return (radius < 0.58) & (radius > 0.42) & (y < 0.68)
    if mood == "surprised":
        return np.hypot(x, y - 0.48) < 0.22
    return (abs(x) < 0.35) & (abs(y - 0.48) < 0.07)


def grain(seed: int) -> NDArray[np.int32]:
    """Draw an atlas's noise: sums of four 8-bit draws (Irwin-Hall), centred and scaled: near enough to normal.

    Integers all the way.
    """
    draws = random_integers(seed, np.arange(BACKGROUNDS * SIDE * SIDE), 4)
    total = (draws & 255).sum(1) - 510
    noise: NDArray[np.int32] = (total * 256 // 148).reshape(BACKGROUNDS, SIDE, SIDE, 1).astype(np.int32)
    return noise


def smooth_fields(seed: int) -> NDArray[np.int32]:
    """Draw an atlas's shade: nine random values a channel, interpolated bilinearly over the picture."""
    corners = random_integers(seed, np.arange(BACKGROUNDS * 9), 3).reshape(BACKGROUNDS, 3, 3, 3) % 513 - 256
    half = SIDE // 2
    distance = abs(np.arange(SIDE)[:, None] - np.arange(3) * half)
    weight = np.clip(half - distance, 0, half)  # (48, 3), rows sum to 24
    field_ = np.einsum("yi,xj,nijc->nyxc", weight, weight, corners)
    shade: NDArray[np.int32] = (field_ // (half * half)).astype(np.int32)
    return shade


@functools.cache
def atlas() -> Atlas:
    """The atlas of this process, drawn on first use (about half a second)."""
    builder, jitter = AtlasBuilder(), Jitter(_ATLAS_SEED)
    _add_shapes(builder, jitter)
    add_glyphs(builder, jitter)
    _add_bars(builder)
    _add_textures(builder)
    _add_faces(builder, jitter)
    return builder.finish(_ATLAS_SEED)
