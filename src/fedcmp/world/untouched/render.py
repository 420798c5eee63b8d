"""The untouched world's styles: tiles in two layers to pixels, by integer arithmetic on whole batches.

pen    outlines in dark ink on ruled paper
ice    all colours pale and bluish, as under frost
rug    coarse threads, warp and weft in turn darker
net    seen through the meshes of a net
map    pastel areas with darker borders, on a grid of lines
toy    full colours with dark borders on light ground, without shade or noise

Shapes: B images, L = 2 layers, 48 x 48 pixels, 3 channels.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedcmp.world.atlas import GRID, SIDE, TILE
from fedcmp.world.content import CELLS, Placed
from fedcmp.world.render import COLORS, add_grain, brightness, ground, joined
from fedcmp.world.untouched.sprites import untouched_atlas
from fedcmp.world.untouched.words import STYLES

# per style: background, strength of the smooth shade, standard deviation of the noise (all of 255)
_BACKGROUND = {
    "pen": (244, 242, 230),
    "ice": (206, 226, 242),
    "rug": (88, 62, 46),
    "net": (170, 186, 170),
    "map": (222, 218, 186),
    "toy": (238, 240, 246),
}
_SHADE = {"pen": 6, "ice": 22, "rug": 14, "net": 34, "map": 10, "toy": 0}
_NOISE = {"pen": 3, "ice": 12, "rug": 9, "net": 9, "map": 4, "toy": 0}
_PER_STYLE = [np.array([table[style] for style in STYLES], np.int32) for table in (_BACKGROUND, _SHADE, _NOISE)]
_RULE, _PAPER_LINE = 6, (176, 196, 226)  # pen: distance of the lines in pixels, their colour
_MESH, _CORD = 8, (48, 44, 40)  # net
_GRATICULE, _MERIDIAN = 12, (170, 150, 130)  # map
_BORDER = {"map": 110, "toy": 150}  # how much darker the edge of an object is, of 256
_FROST = np.array((226, 240, 252), np.int32)
_EMPTY = [0] * CELLS

_Y, _X = np.mgrid[0:SIDE, 0:SIDE]


def _number(style: str) -> int:
    return STYLES.index(style)


def render_layers(
    placed: Sequence[Placed], styles_B: NDArray[np.int64], draws_BS: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """Draw images.

    Args:
        placed: B of them: tiles of the untouched atlas and colours, in one layer or two.
        styles_B: (B,) numbers into the untouched world's styles.
        draws_BS: (B, 48) the scenes' random integers; slots 40 to 43 are used.

    Returns:
        (B, 48, 48, 3) uint8, RGB.
    """
    sprites, count = untouched_atlas(), len(placed)
    background, shade, noise = (table[styles_B] for table in _PER_STYLE)
    pixels = ground(sprites, draws_BS, background, shade)
    _rule(pixels, styles_B)

    bright = brightness(draws_BS)
    for layer in (placed, [one.over for one in placed]):
        tiles = np.array([one.tiles if one else _EMPTY for one in layer])
        colors = np.array([one.colors if one else _EMPTY for one in layer])
        filled, outline = (joined(table[tiles], count) for table in (sprites.filled, sprites.outline))
        color = _inked(COLORS[colors].reshape(count, GRID, GRID, 3) * bright >> 8, styles_B)
        alpha = np.where((styles_B == _number("pen"))[:, None, None, None], outline, filled)
        pixels += (color.repeat(TILE, 1).repeat(TILE, 2) - pixels) * alpha >> 8
        for style, darker in _BORDER.items():
            chosen = styles_B == _number(style)
            pixels[chosen] -= pixels[chosen] * outline[chosen] * darker >> 16

    add_grain(pixels, sprites, draws_BS, noise)
    _cover(pixels, styles_B)
    return np.clip(pixels, 0, 255, out=pixels).astype(np.uint8)


def _rule(pixels: NDArray[np.int32], styles_B: NDArray[np.int64]) -> None:
    """Draw what lies under the objects: the lines of paper and map."""
    for style, lines, color in (
        ("pen", _Y % _RULE == _RULE - 1, _PAPER_LINE),
        ("map", (_Y % _GRATICULE == 5) | (_X % _GRATICULE == 5), _MERIDIAN),
    ):
        chosen = np.flatnonzero(styles_B == _number(style))
        pixels[chosen[:, None, None], _Y, _X] = np.where(lines[..., None], color, pixels[chosen])


def _inked(color: NDArray[np.int32], styles_B: NDArray[np.int64]) -> NDArray[np.int32]:
    """Change (B, 3, 3, 3) colours of the objects as the style asks: darker ink, thread; pastel."""
    pen, rug, map_ = (styles_B == _number(style) for style in ("pen", "rug", "map"))
    color[pen] = color[pen] * 3 >> 2
    color[rug] = color[rug] * 7 >> 3
    color[map_] = (color[map_] * 5 >> 3) + 92
    return color


def _cover(pixels: NDArray[np.int32], styles_B: NDArray[np.int64]) -> None:
    """Draw what lies over the objects: frost, threads, meshes."""
    ice = styles_B == _number("ice")
    pixels[ice] += (_FROST - pixels[ice]) * 3 >> 3
    rug = styles_B == _number("rug")
    threads = pixels[rug][:, ::2, ::2].repeat(2, 1).repeat(2, 2)
    weave = np.where((_Y // 2 + _X // 2) % 2 == 0, 276, 176)[..., None]
    pixels[rug] = threads * weave >> 8
    net = styles_B == _number("net")
    cords = ((_X + _Y) % _MESH == 0) | ((_X - _Y) % _MESH == 0)
    pixels[net] = np.where(cords[..., None], np.array(_CORD, np.int32), pixels[net])
