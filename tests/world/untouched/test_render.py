"""The untouched world's styles do what their names say, and drawing changes nothing that it is given."""

import numpy as np
import pytest

from fedcmp.world.atlas import SIDE, atlas
from fedcmp.world.content import Placed
from fedcmp.world.randomness import random_integers
from fedcmp.world.untouched.render import render_layers
from fedcmp.world.untouched.sprites import untouched_atlas
from fedcmp.world.untouched.words import ANIMALS, STYLES, THINGS
from fedcmp.world.words import COLORS, MOODS

EMPTY = Placed.empty()


def one(style, placed, seed=3):
    """One image as integers, so that differences do not wrap around."""
    image = render_layers([placed], np.array([STYLES.index(style)]), random_integers(seed, np.array([0])))
    assert image.shape == (1, SIDE, SIDE, 3)
    assert image.dtype == np.uint8
    return image[0].astype(int)


def square(over=None, color="red"):
    tiles = untouched_atlas().index["outer", "square", 0]
    return Placed(list(tiles), [COLORS.index(color)] * 9, over)


def small(color="blue"):
    placed = Placed.empty()
    placed.put(untouched_atlas(), 4, ("shape", "circle", 2), COLORS.index(color), 0)
    return placed


def test_styles_differ_as_their_names_say():
    empty = {style: one(style, EMPTY) for style in STYLES}
    for first in STYLES:
        for second in STYLES:
            assert first == second or (empty[first] != empty[second]).mean() > 0.5
    assert empty["rug"].mean() < 100 < 190 < empty["pen"].mean()
    assert empty["toy"].std(axis=(0, 1)).max() == 0  # no shade, no noise
    ruled = [
        abs(np.diff(empty[style], axis=0)).mean() / abs(np.diff(empty[style], axis=1)).mean()
        for style in ("pen", "ice")
    ]
    assert ruled[0] > 3 * ruled[1]  # lines run across the paper
    cords = (empty["net"] < 60).all(-1)
    assert 0.15 < cords.mean() < 0.35
    assert np.array_equal(cords, one("net", square())[..., :].max(-1) < 60)  # the net is in front


def test_a_pen_leaves_the_middle_of_a_square_empty_and_the_others_fill_it():
    middle = np.s_[20:28, 20:28]
    for style in STYLES:
        changed = abs(one(style, square()) - one(style, EMPTY))[middle]
        assert (changed.max() == 0) == (style == "pen")


@pytest.mark.parametrize("style", STYLES)
def test_the_second_layer_is_on_top_of_the_first(style):
    both, alone = one(style, square(small())), one(style, square())
    changed = abs(both - alone).max(-1)
    assert changed[17:31, 17:31].max() > 25
    assert changed[:15].max() == 0 == changed[:, 34:].max()


def test_ice_is_paler_than_toys():
    spans = {style: np.ptp(one(style, square())[24, 24]) for style in ("ice", "toy")}
    assert spans["ice"] < 0.8 * spans["toy"]


def test_an_image_does_not_depend_on_its_batch():
    draws = random_integers(1, np.arange(18))
    styles = np.arange(18) % len(STYLES)
    placed = [square(small() if i % 2 else None, COLORS[i % 5]) for i in range(18)]
    together = render_layers(placed, styles, draws)
    for i in range(18):
        alone = render_layers(placed[i : i + 1], styles[i : i + 1], draws[i : i + 1])
        np.testing.assert_array_equal(alone[0], together[i])
    np.testing.assert_array_equal(render_layers(placed[::-1], styles[::-1], draws[::-1])[::-1], together)


def test_drawing_changes_neither_its_inputs_nor_the_atlas():
    sprites, draws = untouched_atlas(), random_integers(2, np.arange(12))
    styles, placed = np.arange(12) % len(STYLES), [square(small())] * 12
    kept = [sprites.filled, sprites.outline, sprites.noise, sprites.shade, draws, styles]
    before = [array.copy() for array in kept]
    first = render_layers(placed, styles, draws)
    for array, copy in zip(kept, before, strict=True):
        np.testing.assert_array_equal(array, copy)
    np.testing.assert_array_equal(render_layers(placed, styles, draws), first)


def test_the_tiles_are_integers_and_none_of_the_embedded_worlds():
    new, old = untouched_atlas(), atlas()
    for table in (new.filled, new.outline, new.noise, new.shade):
        assert table.dtype == np.int32
    assert new.filled.min() == 0
    assert new.filled.max() == 256
    known = {tile.tobytes() for tile in old.filled if 0 < tile.sum() < 256 * 256}
    same = [tile for tile in new.filled if tile.tobytes() in known]
    assert len(same) < 0.15 * len(new.filled)  # regular patterns repeat; pictograms do not
    assert not np.array_equal(new.noise, old.noise)


def test_pictograms_and_heads_are_told_apart():
    sprites = untouched_atlas()
    things = [sprites.filled[sprites.index["thing", thing, 2][0]] for thing in THINGS]
    heads = [sprites.filled[sprites.index["animal", animal, MOODS[0], 0]] for animal in ANIMALS]
    moods = [sprites.filled[sprites.index["animal", ANIMALS[0], mood, 0]] for mood in MOODS]
    for drawn in (things, heads, moods):
        for i, first in enumerate(drawn):
            assert first.sum() > 0
            assert all(abs(first - second).sum() > 0.03 * first.sum() for second in drawn[:i])
