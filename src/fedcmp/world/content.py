"""What every content family answers: its phrase in a caption, its tiles, its cells in words, its questions.

A family turns one scene's random integers (`draws`, see randomness.py) into content. Slots 0 to 29 belong to the
family, 30 to 39 to the scene as a whole (caption form, style, family) and to pretraining, 40 to 47 to the renderer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, Self

from fedcmp.world.atlas import VARIANTS, Atlas

CELLS = 9
Draws = Sequence[int]


@dataclass(frozen=True, slots=True)
class Question:
    """A question about a picture with a one-word answer.

    Attributes:
        kind: one of words.QUESTION_KINDS.
        text: ends in " ?".
        answer: one word.
    """

    kind: str
    text: str
    answer: str


@dataclass(frozen=True, slots=True)
class Placed:
    """What the renderer needs: for each of the nine cells a tile of the atlas and a colour's number.

    Attributes:
        tiles: nine numbers of tiles.
        colors: nine numbers of colours.
        over: what is drawn on top of these tiles, None for nothing; only the untouched world draws two layers.
    """

    tiles: list[int]
    colors: list[int]
    over: "Placed | None" = None

    @classmethod
    def empty(cls) -> Self:
        """A picture with nothing in it."""
        return cls([0] * CELLS, [0] * CELLS)

    def put(self, atlas: Atlas, cell: int, sprite: tuple[str | int, ...], color: int, draw: int) -> None:
        """Set one cell to a variant of a sprite."""
        self.tiles[cell] = atlas.index[sprite][(draw >> 3) % VARIANTS]
        self.colors[cell] = color


class Content(Protocol):
    """One scene's content. A family is a frozen dataclass with these methods, registered in scene.FAMILY_SHARES."""

    family: ClassVar[str]

    @classmethod
    def sample(cls, draws: Draws) -> Self:
        """Content from random integers."""
        ...

    def phrase(self) -> str:
        """The noun phrase that a caption is built around."""
        ...

    def cell_words(self) -> list[str]:
        """What each of the nine cells shows, in words, "" where it is empty: the text-only stand-in for a picture."""
        ...

    def place(self, atlas: Atlas, draws: Draws) -> Placed:
        """Tiles and colours."""
        ...

    def questions(self, draws: Draws) -> list[Question]:
        """All questions asked about this scene, the one about its style excepted."""
        ...


def distinct_cells(draw: int, count: int) -> list[int]:
    """`count` different cells of the grid from one random integer."""
    free, out = list(range(CELLS)), []
    for _ in range(count):
        out.append(free.pop(draw % len(free)))
        draw //= CELLS
    return out


def another(current: int, draw: int, options: int) -> int:
    """One of the `options` numbers that is not `current`."""
    return (current + 1 + draw % (options - 1)) % options


def yes_or_no(truth: bool) -> str:
    """The answer to a yes/no question."""
    return "yes" if truth else "no"


def ordered_pair(first: str, second: str, draw: int) -> tuple[str, str]:
    """The two in either order, so that a choice cannot be answered by position."""
    return (first, second) if draw % 2 else (second, first)
