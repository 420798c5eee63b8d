"""The untouched world's families of separate objects: pictograms, two groups to count, one shape in another, a die."""

from dataclasses import dataclass
from typing import ClassVar, Self

from fedcmp.world.atlas import VARIANTS, Atlas
from fedcmp.world.content import CELLS, Draws, Placed, Question, another, distinct_cells, ordered_pair, yes_or_no
from fedcmp.world.families_objects import Item, Shapes
from fedcmp.world.untouched.words import OUTER_SHAPES, THINGS
from fedcmp.world.words import COLORS, NUMBERS, PLURALS, SHAPES, SIZES, place, with_article

CENTER = 4
# cells of a die's dots, by their number
DOTS = {
    2: (2, 6),
    3: (2, 4, 6),
    4: (0, 2, 6, 8),
    5: (0, 2, 4, 6, 8),
    6: (0, 2, 3, 5, 6, 8),
    7: (0, 2, 3, 4, 5, 6, 8),
    8: (0, 1, 2, 3, 5, 6, 7, 8),
    9: (0, 1, 2, 3, 4, 5, 6, 7, 8),
}


def whole(atlas: Atlas, *key: str | int, color: int, draw: int) -> Placed:
    """Place a variant of an image over the whole grid, in one colour."""
    return Placed(list(atlas.index[(*key, (draw >> 3) % VARIANTS)]), [color] * CELLS)


@dataclass(frozen=True, slots=True)
class Things(Shapes):
    """One to three pictograms of different things, each with a colour, a size and a place."""

    family: ClassVar[str] = "things"
    kinds: ClassVar[tuple[str, ...]] = THINGS

    def full_name(self, item: Item) -> str:
        """As a caption names it."""
        return f"{SIZES[item.size]} {COLORS[item.color]} {THINGS[item.kind]}"

    def name(self, item: Item) -> str:
        """As a question about existence names it."""
        return f"{COLORS[item.color]} {THINGS[item.kind]}"

    def noun(self, item: Item) -> str:
        """As a question about one of its properties names it."""
        return THINGS[item.kind]

    def sprite(self, item: Item) -> tuple[str | int, ...]:
        """Key into the atlas."""
        return ("thing", THINGS[item.kind], item.size)

    def questions(self, draws: Draws) -> list[Question]:
        """Return those of shapes but for their number: the vocabulary has no word for things of all kinds."""
        return [question for question in Shapes.questions(self, draws) if question.kind != "count"]


@dataclass(frozen=True, slots=True)
class Groups:
    """Two to four equal objects, and two to four of another kind and colour among them."""

    family: ClassVar[str] = "groups"
    kinds: tuple[int, int]
    colors: tuple[int, int]
    cells: tuple[tuple[int, ...], tuple[int, ...]]

    @classmethod
    def sample(cls, draws: Draws) -> Self:
        """Draw how many of each, of what, where."""
        first, second = 2 + draws[0] % 3, 2 + draws[1] % 3
        cells = distinct_cells(draws[2], first + second)
        kind, color = draws[3] % len(SHAPES), draws[4] % len(COLORS)
        return cls(
            (kind, another(kind, draws[5], len(SHAPES))),
            (color, another(color, draws[6], len(COLORS))),
            (tuple(cells[:first]), tuple(cells[first:])),
        )

    def _plural(self, group: int) -> str:
        return PLURALS[SHAPES[self.kinds[group]]]

    def _said(self, group: int) -> str:
        return f"{NUMBERS[len(self.cells[group])]} {COLORS[self.colors[group]]} {self._plural(group)}"

    def phrase(self) -> str:
        """Return number, colour and kind of both."""
        return f"{self._said(0)} and {self._said(1)}"

    def cell_words(self) -> list[str]:
        """Return colour and kind in each cell that holds an object."""
        words = [""] * CELLS
        for kind, color, cells in zip(self.kinds, self.colors, self.cells, strict=True):
            for cell in cells:
                words[cell] = f"{COLORS[color]} {SHAPES[kind]}"
        return words

    def place(self, atlas: Atlas, draws: Draws) -> Placed:
        """Place one sprite a cell, each in a variant of its own, all of one size."""
        placed = Placed.empty()
        for kind, color, cells in zip(self.kinds, self.colors, self.cells, strict=True):
            for cell in cells:
                placed.put(atlas, cell, ("shape", SHAPES[kind], 1), color, draws[8 + cell])
        return placed

    def questions(self, draws: Draws) -> list[Question]:
        """Ask count, attribute, choice, existence."""
        asked = draws[17] % 2
        plural, color = self._plural(asked), COLORS[self.colors[asked]]
        pair = ordered_pair(color, COLORS[self.colors[1 - asked]], draws[18])
        absent = [kind for kind in range(len(SHAPES)) if kind not in self.kinds]
        named = self.kinds[asked] if draws[14] % 2 else absent[draws[15] % len(absent)]
        return [
            Question("count", f"how many {plural} are there ?", NUMBERS[len(self.cells[asked])]),
            Question("attribute", f"what color are the {plural} ?", color),
            Question("choice", f"are the {plural} {pair[0]} or {pair[1]} ?", color),
            Question("existence", f"are there {PLURALS[SHAPES[named]]} ?", yes_or_no(named in self.kinds)),
        ]


@dataclass(frozen=True, slots=True)
class Nested:
    """A small shape on a large one of another kind and colour, which fills the image."""

    family: ClassVar[str] = "nested"
    outer: int
    inner: int
    colors: tuple[int, int]

    @classmethod
    def sample(cls, draws: Draws) -> Self:
        """Draw both kinds and colours."""
        outer = draws[0] % len(OUTER_SHAPES)
        inner = another(SHAPES.index(OUTER_SHAPES[outer]), draws[1], len(SHAPES))
        color = draws[2] % len(COLORS)
        return cls(outer, inner, (color, another(color, draws[3], len(COLORS))))

    def _names(self) -> tuple[str, str]:
        return f"{COLORS[self.colors[0]]} {OUTER_SHAPES[self.outer]}", f"{COLORS[self.colors[1]]} {SHAPES[self.inner]}"

    def phrase(self) -> str:
        """Return the large one, then the small one with its place."""
        outer, inner = self._names()
        return f"a large {outer} with a small {inner} {place(CENTER)}"

    def cell_words(self) -> list[str]:
        """Return the large shape's name in every cell, the small one's in the middle."""
        outer, inner = self._names()
        return [f"small {inner}" if cell == CENTER else f"large {outer}" for cell in range(CELLS)]

    def place(self, atlas: Atlas, draws: Draws) -> Placed:
        """Place the large shape, and the small one on top."""
        placed = whole(atlas, "outer", OUTER_SHAPES[self.outer], color=self.colors[0], draw=draws[4])
        over = Placed.empty()
        over.put(atlas, CENTER, ("shape", SHAPES[self.inner], 2), self.colors[1], draws[5])
        return Placed(placed.tiles, placed.colors, over)

    def questions(self, draws: Draws) -> list[Question]:
        """Ask attribute, choice, existence."""
        names = (OUTER_SHAPES[self.outer], SHAPES[self.inner])
        asked = draws[17] % 2
        noun, color = names[asked], COLORS[self.colors[asked]]
        pair = ordered_pair(color, COLORS[self.colors[1 - asked]], draws[18])
        named = color if draws[14] % 2 else COLORS[another(self.colors[asked], draws[15], len(COLORS))]
        return [
            Question("attribute", f"what color is the {noun} ?", color),
            Question("choice", f"is the {noun} {pair[0]} or {pair[1]} ?", color),
            Question("existence", f"is there {with_article(f'{named} {noun}')} ?", yes_or_no(named == color)),
        ]


@dataclass(frozen=True, slots=True)
class Dice:
    """A box with two to nine dots, in the places that they have on dice and dominoes."""

    family: ClassVar[str] = "dice"
    dots: int
    colors: tuple[int, int]

    @classmethod
    def sample(cls, draws: Draws) -> Self:
        """Draw the number of dots and both colours."""
        color = draws[2] % len(COLORS)
        return cls(2 + draws[0] % len(DOTS), (color, another(color, draws[3], len(COLORS))))

    def phrase(self) -> str:
        """Return the box, then number and colour of its dots."""
        return f"{with_article(COLORS[self.colors[0]])} box with {NUMBERS[self.dots]} {COLORS[self.colors[1]]} dots"

    def cell_words(self) -> list[str]:
        """Return the box in every cell, and dots where they are."""
        box, dots = f"{COLORS[self.colors[0]]} box", f"{COLORS[self.colors[1]]} dots"
        return [f"{box} {dots}" if cell in DOTS[self.dots] else box for cell in range(CELLS)]

    def place(self, atlas: Atlas, draws: Draws) -> Placed:
        """Place the box, and the dots on top."""
        placed, over = whole(atlas, "board", color=self.colors[0], draw=draws[4]), Placed.empty()
        for cell in DOTS[self.dots]:
            over.put(atlas, cell, ("shape", "circle", 0), self.colors[1], draws[5 + cell])
        return Placed(placed.tiles, placed.colors, over)

    def questions(self, draws: Draws) -> list[Question]:
        """Ask count, attribute, choice."""
        box, dots = (COLORS[color] for color in self.colors)
        pair = ordered_pair(box, dots, draws[18])
        return [
            Question("count", "how many dots are there ?", NUMBERS[self.dots]),
            Question("attribute", "what color is the box ?", box),
            Question("choice", f"is the box {pair[0]} or {pair[1]} ?", box),
        ]
