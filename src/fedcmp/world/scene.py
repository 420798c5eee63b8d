"""Scenes of the embedded world: picture, caption and questions, a function of (seed, index) alone.

A picture is a 3 x 3 grid of sprites, 48 x 48 pixels, of one of eight content families in one of six styles.

    scenes = make_scenes(seed=0, start=100, count=20)
    scenes.captions[0], scenes.images[0], scenes.questions[0]
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedcmp.world.atlas import SIDE, atlas
from fedcmp.world.content import Content, Question
from fedcmp.world.families_objects import Arrows, Count, Shapes
from fedcmp.world.families_pictures import Chart, Face, Texture
from fedcmp.world.families_text import Number, Word
from fedcmp.world.randomness import random_integers
from fedcmp.world.render import render
from fedcmp.world.words import STYLE_PHRASES, STYLES

FAMILY_SHARES: dict[type[Content], int] = {  # per cent of all scenes
    Shapes: 30,
    Count: 12,
    Word: 10,
    Number: 12,
    Chart: 10,
    Texture: 7,
    Face: 7,
    Arrows: 12,
}
FAMILIES = tuple(family.family for family in FAMILY_SHARES)
WORLD_REVISION = "1"  # raised whenever any scene changes
_BY_SHARE = [family for family, share in FAMILY_SHARES.items() for _ in range(share)]
_RENDER_BATCH = 256

# Streams that never meet: what a projector trains on, what is tuned on, what is reported, what the frozen parts saw.
TRAINING_SEED, VALIDATION_SEED, TEST_SEED, PRETRAINING_SEED = 202, 505, 101, 404


@dataclass(frozen=True)
class Scenes:
    """A batch of scenes.

    Attributes:
        seed: the stream they belong to.
        indices: (n,) their indices in it.
        contents: what each one shows.
        styles: (n,) numbers into words.STYLES.
        captions: one a scene, lower case, words separated by spaces, ends in " .".
        questions: a list a scene.
        images: (n, 48, 48, 3) uint8, or no rows where pictures were not asked for.
        draws: (n, 48) the random integers behind them.
    """

    seed: int
    indices: NDArray[np.int64]
    contents: list[Content]
    styles: NDArray[np.int64]
    captions: list[str]
    questions: list[list[Question]]
    images: NDArray[np.uint8]
    draws: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.contents)

    @property
    def families(self) -> list[str]:
        """The content family of each scene."""
        return [content.family for content in self.contents]


def make_scenes(seed: int, start: int, count: int, *, images: bool = True) -> Scenes:
    """Scenes `start` to `start + count - 1` of a stream; see `scenes_at`."""
    return scenes_at(seed, np.arange(start, start + count), images=images)


def scenes_at(seed: int, indices: NDArray[np.int64] | Sequence[int], *, images: bool = True) -> Scenes:
    """The scenes at the given indices.

    Args:
        seed: the stream.
        indices: (n,) at least 0, any order.
        images: draw the pictures; without, text only and faster.

    Returns:
        The scenes; each depends on (seed, index) only, not on its neighbours.
    """
    indices = np.asarray(indices, np.int64)
    draws = random_integers(seed, indices)
    styles = draws[:, 31] % len(STYLES)
    rows: list[list[int]] = draws.tolist()
    contents = [_BY_SHARE[row[32] % len(_BY_SHARE)].sample(row) for row in rows]
    captions, questions = [], []
    for content, style, row in zip(contents, styles.tolist(), rows, strict=True):
        captions.append(_caption(content.phrase(), STYLES[style], row[30]))
        questions.append([*content.questions(row), Question("style", "what kind of picture is this ?", STYLES[style])])
    pictures = draw_pictures(contents, styles, draws) if images else np.zeros((0, SIDE, SIDE, 3), np.uint8)
    return Scenes(seed, indices, contents, styles, captions, questions, pictures, draws)


def _caption(phrase: str, style: str, draw: int) -> str:
    kind = STYLE_PHRASES.get(style, style)
    form = draw % 3
    if form == 0:
        return f"a {kind} of {phrase} ."
    return f"{phrase} in a {kind} ." if form == 1 else f"this {kind} shows {phrase} ."


def draw_pictures(
    contents: Sequence[Content], styles: NDArray[np.int64], draws: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """Draw pictures: (n, 48, 48, 3) uint8, each a function of its own content, style and draws.

    Args:
        contents: n of them.
        styles: (n,) numbers into words.STYLES.
        draws: (n, 48) random integers.
    """
    sprites = atlas()
    placed = [content.place(sprites, row) for content, row in zip(contents, draws.tolist(), strict=True)]
    tiles, colors = np.array([p.tiles for p in placed]), np.array([p.colors for p in placed])
    out = np.empty((len(contents), SIDE, SIDE, 3), np.uint8)
    for i in range(0, len(contents), _RENDER_BATCH):  # small batches stay in the cache
        s = np.s_[i : i + _RENDER_BATCH]
        out[s] = render(tiles[s], colors[s], styles[s], draws[s])
    return out
