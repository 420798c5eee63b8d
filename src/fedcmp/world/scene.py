"""Scenes of a drawn world: picture, caption and questions, a function of (world, seed, index) alone.

A picture is a 3 x 3 grid of sprites, 48 x 48 pixels, of one of the world's content families in one of its styles. The
embedded world is described here; worlds.py knows every world.

    scenes = make_scenes(seed=0, start=100, count=20)
    scenes.captions[0], scenes.images[0], scenes.questions[0]
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fedcmp.world.atlas import SIDE, Atlas, atlas
from fedcmp.world.content import Content, Placed, Question
from fedcmp.world.families_objects import Arrows, Count, Shapes
from fedcmp.world.families_pictures import Chart, Face, Texture
from fedcmp.world.families_text import Number, Word
from fedcmp.world.randomness import random_integers
from fedcmp.world.render import render
from fedcmp.world.words import STYLE_PHRASES, STYLES, with_article

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
_RENDER_BATCH = 256

# Streams that never meet: what a projector trains on, what is tuned on, what is reported, what the frozen parts saw.
TRAINING_SEED, VALIDATION_SEED, TEST_SEED, PRETRAINING_SEED = 202, 505, 101, 404
Pixels = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class World:
    """What scenes are made of.

    Attributes:
        name: as recipes have it in data.world.
        revision: raised whenever any scene changes.
        shares: content family -> its share of all scenes in per cent; they sum to 100.
        styles: names of the styles; each is a word of the vocabulary, and of a caption only where it is the style.
        style_phrases: style -> how a caption names such an image, where not by the style's name alone.
        streams: split -> seed; "train", "validation" and "test" share no scene.
        atlas: the tiles, drawn on first use.
        render: (what is placed, n styles, (n, 48) draws) -> (n, 48, 48, 3) uint8.
    """

    name: str
    revision: str
    shares: Mapping[type[Content], int]
    styles: tuple[str, ...]
    style_phrases: Mapping[str, str]
    streams: Mapping[str, int]
    atlas: Callable[[], Atlas]
    render: Callable[[Sequence[Placed], NDArray[np.int64], NDArray[np.int64]], Pixels]

    @property
    def families(self) -> tuple[str, ...]:
        """Names of the content families."""
        return tuple(family.family for family in self.shares)

    @cached_property
    def by_share(self) -> list[type[Content]]:
        """Each family as often as its share says."""
        return [family for family, share in self.shares.items() for _ in range(share)]

    def style_of(self, caption: str) -> str:
        """Return the style of one of the world's captions, which always name it."""
        words = set(caption.split())
        return next(style for style in self.styles if style in words)


def _render(placed: Sequence[Placed], styles: NDArray[np.int64], draws: NDArray[np.int64]) -> Pixels:
    return render(np.array([p.tiles for p in placed]), np.array([p.colors for p in placed]), styles, draws)


EMBEDDED = World(
    name="embedded",
    revision=WORLD_REVISION,
    shares=FAMILY_SHARES,
    styles=STYLES,
    style_phrases=STYLE_PHRASES,
    streams={"train": TRAINING_SEED, "validation": VALIDATION_SEED, "test": TEST_SEED},
    atlas=atlas,
    render=_render,
)


@dataclass(frozen=True)
class Scenes:
    """A batch of scenes.

    Attributes:
        seed: the stream they belong to.
        indices: (n,) their indices in it.
        contents: what each one shows.
        styles: (n,) numbers into the world's styles.
        captions: one a scene, lower case, words separated by spaces, ends in " .".
        questions: a list a scene.
        images: (n, 48, 48, 3) uint8, or no rows where pictures were not asked for.
        draws: (n, 48) the random integers behind them.
        world: the world they belong to.
    """

    seed: int
    indices: NDArray[np.int64]
    contents: list[Content]
    styles: NDArray[np.int64]
    captions: list[str]
    questions: list[list[Question]]
    images: Pixels
    draws: NDArray[np.int64]
    world: World = EMBEDDED

    def __len__(self) -> int:
        return len(self.contents)

    @property
    def families(self) -> list[str]:
        """The content family of each scene."""
        return [content.family for content in self.contents]

    @property
    def style_names(self) -> list[str]:
        """The style of each scene."""
        return [self.world.styles[style] for style in self.styles.tolist()]


def make_scenes(seed: int, start: int, count: int, *, images: bool = True, world: World = EMBEDDED) -> Scenes:
    """Scenes `start` to `start + count - 1` of a stream; see `scenes_at`."""
    return scenes_at(seed, np.arange(start, start + count), images=images, world=world)


def scenes_at(
    seed: int, indices: NDArray[np.int64] | Sequence[int], *, images: bool = True, world: World = EMBEDDED
) -> Scenes:
    """The scenes at the given indices.

    Args:
        seed: the stream.
        indices: (n,) at least 0, any order.
        images: draw the pictures; without, text only and faster.
        world: its families and styles.

    Returns:
        The scenes; each depends on (world, seed, index) only, not on its neighbours.
    """
    indices = np.asarray(indices, np.int64)
    draws = random_integers(seed, indices)
    styles = draws[:, 31] % len(world.styles)
    rows: list[list[int]] = draws.tolist()
    contents = [world.by_share[row[32] % len(world.by_share)].sample(row) for row in rows]
    captions, questions = [], []
    for content, number, row in zip(contents, styles.tolist(), rows, strict=True):
        style = world.styles[number]
        captions.append(_caption(content.phrase(), world.style_phrases.get(style, style), row[30]))
        questions.append([*content.questions(row), Question("style", "what kind of picture is this ?", style)])
    pictures = draw_pictures(contents, styles, draws, world=world) if images else np.zeros((0, SIDE, SIDE, 3), np.uint8)
    return Scenes(seed, indices, contents, styles, captions, questions, pictures, draws, world)


def _caption(phrase: str, kind: str, draw: int) -> str:
    form = draw % 3
    if form == 0:
        return f"{with_article(kind)} of {phrase} ."
    return f"{phrase} in {with_article(kind)} ." if form == 1 else f"this {kind} shows {phrase} ."


def draw_pictures(
    contents: Sequence[Content], styles: NDArray[np.int64], draws: NDArray[np.int64], *, world: World = EMBEDDED
) -> Pixels:
    """Draw pictures: (n, 48, 48, 3) uint8, each a function of its own content, style and draws.

    Args:
        contents: n of them, of families of the world.
        styles: (n,) numbers into the world's styles.
        draws: (n, 48) random integers.
        world: whose tiles and styles they are drawn with.
    """
    sprites = world.atlas()
    placed = [content.place(sprites, row) for content, row in zip(contents, draws.tolist(), strict=True)]
    out = np.empty((len(contents), SIDE, SIDE, 3), np.uint8)
    for i in range(0, len(contents), _RENDER_BATCH):  # small batches stay in the cache
        s = np.s_[i : i + _RENDER_BATCH]
        out[s] = world.render(placed[s], styles[s], draws[s])
    return out
