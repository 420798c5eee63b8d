"""The untouched world's families that fill the whole image: dials, bands, halves, animals; words from top to bottom."""

from dataclasses import dataclass
from typing import ClassVar, Self

from fedcmp.world.atlas import VARIANTS, Atlas
from fedcmp.world.content import CELLS, Draws, Placed, Question, another, ordered_pair, yes_or_no
from fedcmp.world.untouched.objects import whole
from fedcmp.world.untouched.words import ANIMALS, BEARINGS, COLUMN_WORDS
from fedcmp.world.words import COLORS, COLUMNS, MOODS, ROWS, TEXTURES, with_article


def two_colors(draws: Draws) -> tuple[int, int]:
    """Return two different colours from slots 2 and 3."""
    color = draws[2] % len(COLORS)
    return color, another(color, draws[3], len(COLORS))


@dataclass(frozen=True, slots=True)
class Dials:
    """A ring around an arrow that points into one of eight directions."""

    family: ClassVar[str] = "dial"
    bearing: int
    colors: tuple[int, int]

    @classmethod
    def sample(cls, draws: Draws) -> Self:
        """Draw direction and colours."""
        return cls(draws[0] % len(BEARINGS), two_colors(draws))

    def phrase(self) -> str:
        """Return the ring, then direction and colour of the arrow."""
        ring, arrow = (COLORS[color] for color in self.colors)
        return f"{with_article(ring)} ring with {with_article(arrow)} {BEARINGS[self.bearing]} arrow"

    def cell_words(self) -> list[str]:
        """Return the arrow in the middle, the ring around it."""
        ring, arrow = (COLORS[color] for color in self.colors)
        middle = f"{arrow} {BEARINGS[self.bearing]} arrow"
        return [middle if cell == CELLS // 2 else f"{ring} ring" for cell in range(CELLS)]

    def place(self, atlas: Atlas, draws: Draws) -> Placed:
        """Place the ring, and the arrow on top."""
        ring = whole(atlas, "dial", color=self.colors[0], draw=draws[4])
        return Placed(
            ring.tiles, ring.colors, whole(atlas, "bearing", self.bearing, color=self.colors[1], draw=draws[5])
        )

    def questions(self, draws: Draws) -> list[Question]:
        """Ask attribute, choice, existence."""
        ring, arrow = (COLORS[color] for color in self.colors)
        pair = ordered_pair(ring, arrow, draws[18])
        named = ring if draws[14] % 2 else COLORS[another(self.colors[0], draws[15], len(COLORS))]
        return [
            Question("attribute", "what color is the arrow ?", arrow),
            Question("choice", f"is the ring {pair[0]} or {pair[1]} ?", ring),
            Question("existence", f"is there {with_article(named)} ring ?", yes_or_no(named == ring)),
        ]


@dataclass(frozen=True, slots=True)
class Bands:
    """Three broad stripes of different colours, side by side or one above the other."""

    family: ClassVar[str] = "bands"
    upright: int
    colors: tuple[int, int, int]

    @classmethod
    def sample(cls, draws: Draws) -> Self:
        """Draw how they lie and their colours."""
        left, chosen = list(range(len(COLORS))), []
        for slot in (2, 3, 4):
            chosen.append(left.pop(draws[slot] % len(left)))
        return cls(draws[0] % 2, (chosen[0], chosen[1], chosen[2]))

    def _places(self) -> tuple[str, ...]:
        return COLUMNS if self.upright else ROWS

    def phrase(self) -> str:
        """Return how they lie, then each colour with its place."""
        said = [f"{COLORS[color]} at the {where}" for color, where in zip(self.colors, self._places(), strict=True)]
        return f"{TEXTURES[self.upright]} , {said[0]} , {said[1]} and {said[2]}"

    def cell_words(self) -> list[str]:
        """Return each cell's colour and how the stripes lie."""
        return [f"{COLORS[color]} {TEXTURES[self.upright]}" for color in self._of_cells()]

    def _of_cells(self) -> list[int]:
        return [self.colors[cell % 3 if self.upright else cell // 3] for cell in range(CELLS)]

    def place(self, atlas: Atlas, draws: Draws) -> Placed:
        """Place nine tiles of one image, each in its stripe's colour."""
        tiles = atlas.index["bands", self.upright, (draws[5] >> 3) % VARIANTS]
        return Placed(list(tiles), self._of_cells())

    def questions(self, draws: Draws) -> list[Question]:
        """Ask attribute, choice, existence."""
        asked = draws[17] % 3
        color, other = COLORS[self.colors[asked]], COLORS[self.colors[(asked + 1) % 3]]
        where = f"at the {self._places()[asked]}"
        pair = ordered_pair(color, other, draws[18])
        named = draws[14] % 2
        return [
            Question("attribute", f"which color is {where} ?", color),
            Question("choice", f"is it {pair[0]} or {pair[1]} {where} ?", color),
            Question("existence", f"are there {TEXTURES[named]} ?", yes_or_no(named == self.upright)),
        ]


@dataclass(frozen=True, slots=True)
class Halves:
    """Two different patterns in two colours, one in each half of the image."""

    family: ClassVar[str] = "halves"
    across: bool
    textures: tuple[int, int]
    colors: tuple[int, int]

    @classmethod
    def sample(cls, draws: Draws) -> Self:
        """Draw which halves, patterns and colours."""
        texture = draws[0] % len(TEXTURES)
        textures = (texture, another(texture, draws[4], len(TEXTURES)))
        return cls(draws[1] % 2 == 1, textures, two_colors(draws))

    def _sides(self) -> tuple[str, str]:
        return ("left", "right") if self.across else ("top", "bottom")

    def _said(self, half: int) -> str:
        return f"{COLORS[self.colors[half]]} {TEXTURES[self.textures[half]]}"

    def phrase(self) -> str:
        """Return both patterns with their places."""
        first, second = self._sides()
        return f"{self._said(0)} at the {first} and {self._said(1)} at the {second}"

    def cell_words(self) -> list[str]:
        """Return each cell's pattern, both where the halves meet."""
        places = [cell % 3 if self.across else cell // 3 for cell in range(CELLS)]
        return [(self._said(0), f"{self._said(0)} {self._said(1)}", self._said(1))[place] for place in places]

    def place(self, atlas: Atlas, draws: Draws) -> Placed:
        """Place one half, and the other on top: they do not overlap."""
        first, second = (
            whole(atlas, "half", texture, side, color=color, draw=draws[5])
            for texture, side, color in zip(self.textures, self._sides(), self.colors, strict=True)
        )
        return Placed(first.tiles, first.colors, second)

    def questions(self, draws: Draws) -> list[Question]:
        """Ask attribute, choice, existence."""
        asked = draws[17] % 2
        where, color = f"at the {self._sides()[asked]}", COLORS[self.colors[asked]]
        pair = ordered_pair(color, COLORS[self.colors[1 - asked]], draws[18])
        absent = [texture for texture in range(len(TEXTURES)) if texture not in self.textures]
        named = self.textures[asked] if draws[14] % 2 else absent[draws[15] % len(absent)]
        return [
            Question("attribute", f"what color is the pattern {where} ?", color),
            Question("choice", f"is the pattern {where} {pair[0]} or {pair[1]} ?", color),
            Question("existence", f"are there {TEXTURES[named]} ?", yes_or_no(named in self.textures)),
        ]


@dataclass(frozen=True, slots=True)
class Animals:
    """The head of an animal in a mood, with a hat of another colour."""

    family: ClassVar[str] = "animal"
    animal: int
    mood: int
    colors: tuple[int, int]

    @classmethod
    def sample(cls, draws: Draws) -> Self:
        """Draw animal, mood and colours."""
        return cls(draws[0] % len(ANIMALS), draws[1] % len(MOODS), two_colors(draws))

    def phrase(self) -> str:
        """Return mood, colour and animal, then the hat."""
        head, hat = (COLORS[color] for color in self.colors)
        return f"a {MOODS[self.mood]} {head} {ANIMALS[self.animal]} with {with_article(hat)} hat"

    def cell_words(self) -> list[str]:
        """Return the hat at the top, the animal's mood below it, and the animal elsewhere."""
        head, hat = (COLORS[color] for color in self.colors)
        animal = f"{head} {ANIMALS[self.animal]}"
        moody = f"{MOODS[self.mood]} {animal}"
        return [animal, f"{hat} hat", animal, moody, moody, moody, animal, moody, animal]

    def place(self, atlas: Atlas, draws: Draws) -> Placed:
        """Place the head, and the hat on top."""
        head = whole(atlas, "animal", ANIMALS[self.animal], MOODS[self.mood], color=self.colors[0], draw=draws[4])
        return Placed(head.tiles, head.colors, whole(atlas, "worn hat", color=self.colors[1], draw=draws[5]))

    def questions(self, draws: Draws) -> list[Question]:
        """Ask attribute, choice, existence."""
        noun, mood = ANIMALS[self.animal], MOODS[self.mood]
        pair = ordered_pair(mood, MOODS[another(self.mood, draws[15], len(MOODS))], draws[16])
        named = self.animal if draws[14] % 2 else another(self.animal, draws[13], len(ANIMALS))
        return [
            Question("attribute", f"how does the {noun} feel ?", mood),
            Question("attribute", "what color is the hat ?", COLORS[self.colors[1]]),
            Question("choice", f"is the {noun} {pair[0]} or {pair[1]} ?", mood),
            Question("existence", f"is there {with_article(ANIMALS[named])} ?", yes_or_no(named == self.animal)),
        ]


@dataclass(frozen=True, slots=True)
class Columns:
    """A three-letter word written from top to bottom."""

    family: ClassVar[str] = "column"
    word: int
    column: int
    color: int

    @classmethod
    def sample(cls, draws: Draws) -> Self:
        """Draw word, column and colour."""
        return cls(draws[3] % len(COLUMN_WORDS), draws[0] % len(COLUMNS), draws[2] % len(COLORS))

    def _cells(self) -> list[tuple[int, str]]:
        return [(row * 3 + self.column, letter) for row, letter in enumerate(COLUMN_WORDS[self.word].upper())]

    def phrase(self) -> str:
        """Return the word, its colour and its column."""
        return f"the word {COLUMN_WORDS[self.word]} in {COLORS[self.color]} at the {COLUMNS[self.column]}"

    def cell_words(self) -> list[str]:
        """Return the letters, each with its colour."""
        words = [""] * CELLS
        for cell, letter in self._cells():
            words[cell] = f"{COLORS[self.color]} {letter}"
        return words

    def place(self, atlas: Atlas, draws: Draws) -> Placed:
        """Place one letter a cell."""
        placed = Placed.empty()
        for cell, letter in self._cells():
            placed.put(atlas, cell, ("glyph", letter), self.color, draws[6 + cell // 3])
        return placed

    def questions(self, draws: Draws) -> list[Question]:
        """Ask existence, choice, OCR, attribute."""
        word = COLUMN_WORDS[self.word]
        wrong = COLUMN_WORDS[another(self.word, draws[15], len(COLUMN_WORDS))]
        asked = word if draws[14] % 2 else wrong
        pair = ordered_pair(word, wrong, draws[16])
        return [
            Question("existence", f"does it say {asked} ?", yes_or_no(asked == word)),
            Question("choice", f"does it say {pair[0]} or {pair[1]} ?", word),
            Question("ocr", "which word is written ?", word),
            Question("attribute", "what color is the text ?", COLORS[self.color]),
        ]
