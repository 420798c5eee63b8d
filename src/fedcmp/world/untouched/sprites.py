"""The untouched world's tiles: pictograms, shapes, letters, and images over the whole grid; from a seed of their own.

Masks are functions of x and y in [-1, 1], y downwards, at four times the resolution of the pixels.
"""

import functools

import numpy as np
from numpy.typing import NDArray

from fedcmp.world.atlas import (
    OVERSAMPLING,
    SIDE,
    TILE,
    VARIANTS,
    Atlas,
    AtlasBuilder,
    Jitter,
    Mask,
    add_glyphs,
    coordinates,
    inside,
    texture_mask,
)
from fedcmp.world.untouched.words import ANIMALS, BEARINGS, OUTER_SHAPES, THINGS
from fedcmp.world.words import MOODS, SHAPES, SIZES, TEXTURES

SIDES = ("left", "right", "top", "bottom")
_ATLAS_SEED = 90_007
_SCALES = (0.56, 0.74, 0.96)
_TURNS = 0.12  # radians that a pictogram is turned by at most
_STROKE = 5

Floats = NDArray[np.float64]


def _within(values: Floats, low: float, high: float) -> Mask:
    return (values > low) & (values < high)


def _ellipse(x: Floats, y: Floats, width: float, height: float) -> Mask:
    covered: Mask = (x / width) ** 2 + (y / height) ** 2 < 1
    return covered


def thing_mask(thing: str, x: Floats, y: Floats) -> Mask:
    """Return which points belong to a pictogram of words.THINGS."""
    if thing == "sun":
        radius = np.hypot(x, y)
        rays: Mask = np.cos(8 * np.arctan2(y, x)) > 0.2
        return (radius < 0.5) | (_within(radius, 0.62, 1) & rays)
    if thing == "box":
        lid = _within(abs(x), -1, 0.98) & _within(y, -0.72, -0.32)
        return lid | (_within(abs(x), -1, 0.82) & _within(y, -0.18, 0.88) & ~_ellipse(x, y - 0.3, 0.3, 0.12))
    if thing == "cup":
        bowl = _within(y, -0.75, 0.85) & (abs(x + 0.2) < 0.6 - 0.14 * y)
        grip = np.hypot(x - 0.45, y + 0.08)
        return bowl | (_within(grip, 0.28, 0.5) & (x > 0.4))
    if thing == "hat":
        crown = _within(y, -0.85, 0.4) & (abs(x) < 0.5 + 0.06 * y) & ~_within(y, 0.08, 0.24)
        return crown | (_within(y, 0.4, 0.72) & (abs(x) < 0.98))
    if thing == "key":
        bow = np.hypot(x + 0.52, y)
        bits = _within(y, 0, 0.5) & (_within(x, 0.4, 0.58) | _within(x, 0.74, 0.92))
        return _within(bow, 0.2, 0.46) | (_within(x, -0.1, 0.95) & (abs(y) < 0.12)) | bits
    if thing == "egg":
        return (x / (0.62 + 0.18 * y)) ** 2 + (y / 0.95) ** 2 < 1
    if thing == "bed":
        ends = (_within(x, -0.97, -0.75) & _within(y, -0.75, 0.8)) | (_within(x, 0.75, 0.97) & _within(y, -0.2, 0.8))
        return ends | ((abs(x) < 0.8) & _within(y, 0.1, 0.5)) | (_within(x, -0.68, -0.1) & _within(y, -0.25, 0.02))
    if thing == "bus":
        windows = _within(y, -0.45, -0.08) & _within((x + 0.96) % 0.48, 0.1, 0.4)
        wheels = np.hypot(abs(x) - 0.5, y - 0.55) < 0.28
        return ((abs(x) < 0.96) & _within(y, -0.65, 0.45) & ~windows) | wheels
    raise KeyError(thing)


def animal_mask(animal: str, mood: str, x: Floats, y: Floats) -> Mask:
    """Return which points belong to the head of an animal of words.ANIMALS, which has a mood."""
    head = np.hypot(x, y - 0.22) < 0.66
    if animal == "cat":
        ears = _within(y, -0.85, 0) & (abs(abs(x) - 0.5) < (y + 0.85) * 0.36)
        whiskers = _within(abs(x), 0.3, 0.62) & (abs(abs(y - 0.38) - 0.08) < 0.025)
        solid = (head | ears) & ~whiskers
    elif animal == "dog":
        ears = _ellipse(abs(x) - 0.72, y - 0.1, 0.22, 0.55)
        gap = _within(np.hypot((abs(x) - 0.72) / 0.22, (y - 0.1) / 0.55), 1, 1.28)
        solid = ears | (head & ~gap & ~_ellipse(x, y - 0.36, 0.16, 0.09))
    elif animal == "pig":
        ears = np.hypot(abs(x) - 0.52, y + 0.32) < 0.24
        snout = _within(np.hypot(x / 0.32, (y - 0.28) / 0.18), 0.76, 1) | (np.hypot(abs(x) - 0.12, y - 0.28) < 0.06)
        solid = (head | ears) & ~snout
    elif animal == "fox":
        face = _within(y, -0.4, 0.95) & (abs(x) < 0.88 - 0.52 * (y + 0.4))
        ears = _within(y, -0.95, -0.3) & (abs(abs(x) - 0.62) < (y + 0.95) * 0.38)
        solid = (face | ears) & ~(np.hypot(x, y - 0.86) < 0.07)
    elif animal == "owl":
        tufts = _within(y, -0.7, -0.1) & (abs(abs(x) - 0.5) < (y + 0.7) * 0.3)
        rings = _within(np.hypot(abs(x) - 0.28, y - 0.06), 0.2, 0.26)
        beak = _within(y, 0.14, 0.36) & (abs(x) < (0.36 - y) * 0.5)
        solid = (_ellipse(x, y - 0.22, 0.66, 0.74) | tufts) & ~rings & ~beak
    else:
        raise KeyError(animal)
    eye = abs(x) - 0.28
    closed = (abs(eye) < 0.15) & (abs(y - 0.06) < 0.05)
    return solid & ~(closed if mood == "sleepy" else np.hypot(eye, y - 0.06) < 0.11) & ~_mouth(mood, x, y - 0.6)


def _mouth(mood: str, x: Floats, y: Floats) -> Mask:
    """Return the mouth around the origin."""
    if mood in ("happy", "sad"):
        turned = y + 0.28 if mood == "happy" else -(y - 0.28)
        return _within(np.hypot(x, turned), 0.27, 0.39) & (turned > 0.16)
    if mood == "surprised":
        return np.hypot(x, y) < 0.12
    return (abs(x) < 0.18) & (abs(y) < 0.05)


def _turned(x: Floats, y: Floats, angle: float) -> tuple[Floats, Floats]:
    return x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)


def _add_small(builder: AtlasBuilder, jitter: Jitter) -> None:
    """Add pictograms and shapes that fit into one cell."""
    x0, y0 = coordinates(TILE * OVERSAMPLING)
    for kinds, mask, group in ((THINGS, thing_mask, "thing"), (SHAPES, inside, "shape")):
        for kind in kinds:
            for size, scale in enumerate(_SCALES[: len(SIZES)]):
                for _ in range(VARIANTS):
                    room = (1 - scale) * 0.7
                    x, y = x0 - jitter.between(-room, room), y0 - jitter.between(-room, room)
                    x, y = _turned(x / scale, y / scale, jitter.between(-_TURNS, _TURNS))
                    builder.add_tile((group, kind, size), mask(kind, x, y), _STROKE)


def _add_large(builder: AtlasBuilder, jitter: Jitter) -> None:
    """Add images over the whole grid."""
    x0, y0 = coordinates(SIDE * OVERSAMPLING)
    for variant in range(VARIANTS):

        def add(*key: str | int, mask: Mask, variant: int = variant) -> None:
            builder.add_picture((*key, variant), mask, _STROKE)

        def moved(low: float, high: float, room: float) -> tuple[Floats, Floats]:
            size = jitter.between(low, high)
            return (x0 - jitter.between(-room, room)) / size, (y0 - jitter.between(-room, room)) / size

        for shape in OUTER_SHAPES:
            x, y = moved(0.92, 1.0, 0.03)
            add("outer", shape, mask=inside(shape, x, y))
        x, y = moved(0.94, 0.99, 0.01)
        add("board", mask=(abs(x) < 0.95) & (abs(y) < 0.95) & (abs(x) + abs(y) < 1.7))
        x, y = moved(0.92, 0.99, 0.02)
        add("dial", mask=_within(np.hypot(x, y), 0.78, 0.98))
        for way in range(len(BEARINGS)):
            x, y = moved(0.6, 0.68, 0.03)
            x, y = _turned(x, y, way * np.pi / 4 + jitter.between(-0.08, 0.08))
            add("bearing", way, mask=inside("arrow", x, y))
        thickness = jitter.between(0.27, 0.32)
        for upright, line in enumerate((y0, x0)):
            across = x0 if line is y0 else y0
            add("bands", upright, mask=(abs((line + 1) % (2 / 3) - 1 / 3) < thickness) & (abs(across) < 0.97))
        for texture in range(len(TEXTURES)):
            pattern = texture_mask(texture, variant)
            for side, half in zip(SIDES, (x0 < 0, x0 > 0, y0 < 0, y0 > 0), strict=True):
                add("half", texture, side, mask=pattern & half)
        for animal in ANIMALS:
            for mood in MOODS:
                x, y = moved(0.9, 0.98, 0.03)
                add("animal", animal, mood, mask=animal_mask(animal, mood, x, y))
        x, y = moved(0.95, 1.0, 0.02)
        crown, brim = _within(y, -0.98, -0.6) & (abs(x) < 0.3), _within(y, -0.62, -0.44) & (abs(x) < 0.52)
        add("worn hat", mask=crown | brim)


@functools.cache
def untouched_atlas() -> Atlas:
    """Return the untouched world's tiles, drawn on first use (about two seconds)."""
    builder, jitter = AtlasBuilder(), Jitter(_ATLAS_SEED)
    _add_small(builder, jitter)
    add_glyphs(builder, jitter)
    _add_large(builder, jitter)
    return builder.finish(_ATLAS_SEED)
