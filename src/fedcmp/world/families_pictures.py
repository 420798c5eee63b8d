"""Families that fill the whole picture: a bar chart, a texture, a face."""

from dataclasses import dataclass
from typing import ClassVar, Self

from fedcmp.world.atlas import VARIANTS, Atlas
from fedcmp.world.content import CELLS, Draws, Placed, Question, another, ordered_pair, yes_or_no
from fedcmp.world.words import COLORS, MOODS, TEXTURES, with_article

BAR_WORDS = ("", "short bar", "tall bar")  # a cell of a bar: nothing, filled to the half, filled


@dataclass(frozen=True, slots=True)
class Chart:
    """Three bars of different colours, one of them the tallest by one step (half a cell)."""

    family: ClassVar[str] = "chart"
    heights: tuple[int, int, int]
    colors: tuple[int, int, int]
    tallest: int

    @classmethod
    def sample(cls, draws: Draws) -> Self:
        """Heights between 1 and 6 half cells."""
        tallest = draws[3] % 3
        heights = [1 + draws[bar] % 5 for bar in range(3)]
        heights[tallest] = 1 + max(heights[bar] for bar in range(3) if bar != tallest)
        colors: list[int] = []
        for bar in range(3):
            color = draws[4 + bar] % len(COLORS)
            while color in colors:
                color = (color + 1) % len(COLORS)
            colors.append(color)
        return cls((heights[0], heights[1], heights[2]), (colors[0], colors[1], colors[2]), tallest)

    def phrase(self) -> str:
        """The three colours from left to right, and the tallest."""
        first, second, third = (COLORS[color] for color in self.colors)
        tallest = COLORS[self.colors[self.tallest]]
        return f"a chart with {first} , {second} and {third} bars , the {tallest} bar is the tallest"

    def _levels(self) -> list[int]:
        """How far each cell is filled: 0, 1 or 2 halves."""
        return [min(2, max(0, self.heights[column] - (2 - row) * 2)) for row in range(3) for column in range(3)]

    def cell_words(self) -> list[str]:
        """Colour and filling of each cell."""
        return [
            f"{COLORS[self.colors[cell % 3]]} {BAR_WORDS[level]}" if level else ""
            for cell, level in enumerate(self._levels())
        ]

    def place(self, atlas: Atlas, draws: Draws) -> Placed:
        """Bars grow from below; all three are equally wide."""
        placed = Placed.empty()
        for cell, level in enumerate(self._levels()):
            placed.put(atlas, cell, ("bar", level), self.colors[cell % 3], draws[7])
        return placed

    def questions(self, draws: Draws) -> list[Question]:
        """Attribute, choice, existence, relation."""
        tallest, other = self.colors[self.tallest], self.colors[(self.tallest + 1) % 3]
        pair = ordered_pair(COLORS[tallest], COLORS[other], draws[16])
        absent = [color for color in range(len(COLORS)) if color not in self.colors]
        asked = self.colors[draws[15] % 3] if draws[14] % 2 else absent[draws[15] % len(absent)]
        said_left = draws[17] % 2 == 1
        first, last = (self.colors[0], self.colors[2]) if draws[18] % 2 else (self.colors[2], self.colors[0])
        truth = said_left == (self.colors.index(first) < self.colors.index(last))
        side = "left of" if said_left else "right of"
        return [
            Question("attribute", "which bar is the tallest ?", COLORS[tallest]),
            Question("choice", f"which bar is taller , {pair[0]} or {pair[1]} ?", COLORS[tallest]),
            Question("existence", f"is there {with_article(COLORS[asked])} bar ?", yes_or_no(asked in self.colors)),
            Question("relation", f"is the {COLORS[first]} bar {side} the {COLORS[last]} bar ?", yes_or_no(truth)),
        ]


@dataclass(frozen=True, slots=True)
class Texture:
    """One pattern all over the picture."""

    family: ClassVar[str] = "texture"
    texture: int
    color: int

    @classmethod
    def sample(cls, draws: Draws) -> Self:
        """Pattern and colour."""
        return cls(draws[0] % len(TEXTURES), draws[2] % len(COLORS))

    def phrase(self) -> str:
        """Colour and pattern."""
        return f"{COLORS[self.color]} {TEXTURES[self.texture]} everywhere"

    def cell_words(self) -> list[str]:
        """The same in every cell."""
        return [f"{COLORS[self.color]} {TEXTURES[self.texture]}"] * CELLS

    def place(self, atlas: Atlas, draws: Draws) -> Placed:
        """Nine tiles of one picture."""
        tiles = atlas.index["texture", self.texture, (draws[3] >> 3) % VARIANTS]
        return Placed(list(tiles), [self.color] * CELLS)

    def questions(self, draws: Draws) -> list[Question]:
        """Attribute, existence."""
        asked = self.texture if draws[14] % 2 else another(self.texture, draws[15], len(TEXTURES))
        return [
            Question("attribute", "what color is the pattern ?", COLORS[self.color]),
            Question("existence", f"are there {TEXTURES[asked]} ?", yes_or_no(asked == self.texture)),
        ]


@dataclass(frozen=True, slots=True)
class Face:
    """A face with a mood, with or without glasses."""

    family: ClassVar[str] = "face"
    mood: int
    glasses: bool
    color: int

    @classmethod
    def sample(cls, draws: Draws) -> Self:
        """Mood, glasses, colour."""
        return cls(draws[0] % len(MOODS), draws[1] % 2 == 1, draws[2] % len(COLORS))

    def _glasses(self) -> str:
        return "glasses" if self.glasses else "no glasses"

    def phrase(self) -> str:
        """Mood, colour, glasses."""
        return f"a {MOODS[self.mood]} {COLORS[self.color]} face with {self._glasses()}"

    def cell_words(self) -> list[str]:
        """Eyes in the upper row, the mouth in the middle of the lower one, plain face elsewhere."""
        face = f"{COLORS[self.color]} face"
        mood = f"{face} {MOODS[self.mood]}"
        eyes = f"{mood} {self._glasses()}"
        return [eyes, eyes, eyes, face, mood, face, face, mood, face]

    def place(self, atlas: Atlas, draws: Draws) -> Placed:
        """Nine tiles of one picture."""
        tiles = atlas.index["face", self.mood, int(self.glasses), (draws[3] >> 3) % VARIANTS]
        return Placed(list(tiles), [self.color] * CELLS)

    def questions(self, draws: Draws) -> list[Question]:
        """Existence, attribute, choice."""
        pair = ordered_pair(MOODS[self.mood], MOODS[another(self.mood, draws[15], len(MOODS))], draws[16])
        return [
            Question("existence", "does the face wear glasses ?", yes_or_no(self.glasses)),
            Question("attribute", "how does the face feel ?", MOODS[self.mood]),
            Question("choice", f"is the face {pair[0]} or {pair[1]} ?", MOODS[self.mood]),
        ]
