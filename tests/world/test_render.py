import numpy as np
import pytest

from fedcmp.world.atlas import SIDE, TILE, atlas
from fedcmp.world.randomness import random_integers
from fedcmp.world.render import render
from fedcmp.world.words import COLORS, SHAPES, SIZES, STYLES

MIDDLE = np.s_[TILE + 5 : 2 * TILE - 5, TILE + 5 : 2 * TILE - 5]  # inside of an object in the middle cell
EMPTY = [0] * 9


def one(style, *, tiles, color="red", seed=3):
    """One picture: float (48, 48, 3), so that differences do not wrap around."""
    colors = np.full((1, 9), COLORS.index(color))
    picture = render(np.array([tiles]), colors, np.array([STYLES.index(style)]), random_integers(seed, np.array([0])))
    assert picture.shape == (1, SIDE, SIDE, 3)
    assert picture.dtype == np.uint8
    return picture[0].astype(float)


def square_in_the_middle():
    tiles = list(EMPTY)
    tiles[4] = atlas().index["square", SIZES.index("large")][0]
    return tiles


def random_pictures(count, seed=1):
    """Tiles, colours, styles and draws of pictures of any content in all styles."""
    draws = random_integers(seed, np.arange(count))
    tiles = draws[:, :9] % len(atlas().filled)
    return tiles, draws[:, 9:18] % len(COLORS), np.arange(count) % len(STYLES), draws


def test_a_negative_is_the_inverse_of_the_photo():
    tiles = square_in_the_middle()
    np.testing.assert_array_equal(one("negative", tiles=tiles), 255 - one("photo", tiles=tiles))


@pytest.mark.parametrize("shape", SHAPES)
def test_a_sketch_shows_outlines_and_the_others_show_what_is_inside(shape):
    """Where the atlas has no stroke, a sketch equals the empty picture; where it has one, it is of the colour."""
    tiles, sprites = list(EMPTY), atlas()
    tiles[4] = sprites.index[shape, SIZES.index("large")][0]
    cell = np.s_[TILE : 2 * TILE, TILE : 2 * TILE]
    for style, alpha in (("sketch", sprites.outline[tiles[4]]), ("photo", sprites.filled[tiles[4]])):
        drawn = abs(one(style, tiles=tiles, color="blue") - one(style, tiles=EMPTY))[cell].max(-1)
        assert drawn[alpha == 0].max() == 0
        assert drawn[alpha == 256].min() > 50
    assert sprites.outline[tiles[4]].sum() < sprites.filled[tiles[4]].sum()


def test_only_a_sketch_leaves_the_middle_of_a_square_empty():
    for style in STYLES:
        inside = abs(one(style, tiles=square_in_the_middle()) - one(style, tiles=EMPTY))[MIDDLE]
        assert (inside.max() == 0) == (style == "sketch")


def test_an_object_has_its_colour_in_a_photo():
    for color, strongest in (("red", 0), ("green", 1), ("blue", 2)):
        inside = one("photo", tiles=square_in_the_middle(), color=color)[MIDDLE]
        assert inside.mean((0, 1)).argmax() == strongest


def test_styles_differ_as_their_names_say():
    pictures = {style: one(style, tiles=EMPTY) for style in STYLES}
    for first in STYLES:
        for second in STYLES:
            assert first == second or (pictures[first] != pictures[second]).mean() > 0.5
    assert pictures["night"].mean() < 50 < 150 < pictures["photo"].mean()
    assert pictures["sketch"].mean() > 235
    assert pictures["noisy"].std() > 3 * pictures["photo"].std()
    steps = {style: abs(np.diff(picture, axis=0)).mean() for style, picture in pictures.items()}
    assert steps["painting"] < steps["photo"]  # blurred


def test_a_picture_does_not_depend_on_its_batch():
    tiles, colors, styles, draws = random_pictures(24)
    together = render(tiles, colors, styles, draws)
    for i in range(24):
        alone = render(tiles[i : i + 1], colors[i : i + 1], styles[i : i + 1], draws[i : i + 1])
        np.testing.assert_array_equal(alone[0], together[i])
    backwards = render(tiles[::-1], colors[::-1], styles[::-1], draws[::-1])
    np.testing.assert_array_equal(backwards[::-1], together)


def test_rendering_changes_neither_its_inputs_nor_the_atlas():
    """It works in place on whole batches; a slice instead of a copy would spoil every later picture."""
    inputs, sprites = random_pictures(24), atlas()
    kept = [*inputs, sprites.filled, sprites.outline, sprites.noise, sprites.shade]
    before = [array.copy() for array in kept]
    first = render(*inputs)
    for array, copy in zip(kept, before, strict=True):
        np.testing.assert_array_equal(array, copy)
    np.testing.assert_array_equal(render(*inputs), first)


def test_all_arithmetic_is_on_integers():
    """Floats round differently from machine to machine."""
    sprites = atlas()
    for table in (sprites.filled, sprites.outline, sprites.noise, sprites.shade):
        assert table.dtype == np.int32
    assert sprites.filled.min() == 0
    assert sprites.filled.max() == 256
