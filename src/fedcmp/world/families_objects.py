"""Families of separate objects on the grid: mixed shapes, arrows, and many of one kind to count."""

from dataclasses import dataclass
from typing import ClassVar, Self

from fedcmp.world.atlas import Atlas
from fedcmp.world.content import (
    CELLS,
    Draws,
    Placed,
    Question,
    another,
    distinct_cells,
    ordered_pair,
    yes_or_no,
)
from fedcmp.world.words import COLORS, DIRECTIONS, NUMBERS, PLURALS, SHAPES, SIZES, place, with_article


@dataclass(frozen=True, slots=True)
class Item:
    """One object: numbers into COLORS, SIZES, the family's kinds, and a cell."""

    color: int
    size: int
    kind: int
    cell: int


def _relation(first: Item, second: Item) -> str:
    (row_1, column_1), (row_2, column_2) = divmod(first.cell, 3), divmod(second.cell, 3)
    if column_1 != column_2:
        return "left of" if column_1 < column_2 else "right of"
    return "above" if row_1 < row_2 else "below"


@dataclass(frozen=True, slots=True)
class Shapes:
    """One to three objects of different kinds, each with a colour, a size and a place."""

    family: ClassVar[str] = "shapes"
    kinds: ClassVar[tuple[str, ...]] = SHAPES
    plural: ClassVar[str] = "shapes"
    items: tuple[Item, ...]
    by_relation: bool

    @classmethod
    def sample(cls, draws: Draws) -> Self:
        """One, two or three items in different cells."""
        count = 1 + draws[0] % 3
        items: list[Item] = []
        taken: set[int] = set()
        for i, cell in enumerate(distinct_cells(draws[1], count)):
            kind = draws[4 + 3 * i] % len(cls.kinds)
            while kind in taken:
                kind = (kind + 1) % len(cls.kinds)
            taken.add(kind)
            items.append(Item(draws[2 + 3 * i] % len(COLORS), draws[3 + 3 * i] % len(SIZES), kind, cell))
        return cls(tuple(items), by_relation=count == 2 and draws[12] % 2 == 1)

    def full_name(self, item: Item) -> str:
        """As a caption names it."""
        return f"{SIZES[item.size]} {COLORS[item.color]} {SHAPES[item.kind]}"

    def name(self, item: Item) -> str:
        """As a question about existence names it."""
        return f"{COLORS[item.color]} {SHAPES[item.kind]}"

    def noun(self, item: Item) -> str:
        """As a question about one of its properties names it."""
        return SHAPES[item.kind]

    def sprite(self, item: Item) -> tuple[str | int, ...]:
        """Key into the atlas."""
        return (SHAPES[item.kind], item.size)

    def phrase(self) -> str:
        """Each item with its place, or two items with their relation."""
        if self.by_relation:
            first, second = self.items
            relation = _relation(first, second)
            return f"{with_article(self.full_name(first))} {relation} {with_article(self.full_name(second))}"
        parts = [f"{with_article(self.full_name(item))} {place(item.cell)}" for item in self.items]
        return parts[0] if len(parts) == 1 else f"{' , '.join(parts[:-1])} and {parts[-1]}"

    def cell_words(self) -> list[str]:
        """An item's full name in its cell."""
        words = [""] * CELLS
        for item in self.items:
            words[item.cell] = self.full_name(item)
        return words

    def place(self, atlas: Atlas, draws: Draws) -> Placed:
        """An item's sprite in its cell."""
        placed = Placed.empty()
        for i, item in enumerate(self.items):
            placed.put(atlas, item.cell, self.sprite(item), item.color, draws[4 + 3 * i])
        return placed

    def questions(self, draws: Draws) -> list[Question]:
        """Existence, attribute, choice, count and, with two items or more, relation."""
        items = self.items
        asked = items[draws[17] % len(items)]
        pair = ordered_pair(COLORS[asked.color], COLORS[another(asked.color, draws[18], len(COLORS))], draws[19])
        questions = [
            self._existence(draws),
            Question("attribute", f"what color is the {self.noun(asked)} ?", COLORS[asked.color]),
            Question("choice", f"is the {self.noun(asked)} {pair[0]} or {pair[1]} ?", COLORS[asked.color]),
            Question("count", f"how many {self.plural} are there ?", NUMBERS[len(items)]),
        ]
        if len(items) > 1:
            first, second = items[:2] if draws[20] % 2 else items[1::-1]
            relation = _relation(first, second)
            if divmod(first.cell, 3)[0] != divmod(second.cell, 3)[0] and draws[21] % 2:
                relation = "above" if first.cell // 3 < second.cell // 3 else "below"
            opposite = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
            if draws[22] % 3 == 2 and len(items) == 2:
                questions.append(
                    Question("relation", f"what is {relation} the {self.noun(second)} ?", self.kinds[first.kind])
                )
            else:
                said = relation if draws[22] % 2 else opposite[relation]
                text = f"is the {self.noun(first)} {said} the {self.noun(second)} ?"
                questions.append(Question("relation", text, yes_or_no(said == relation)))
        return questions

    def _existence(self, draws: Draws) -> Question:
        item = self.items[draws[13] % len(self.items)]
        if draws[14] % 2 == 0:  # ask for something near: the same kind in another colour, or another kind
            if draws[16] % 2:
                item = Item(item.color, item.size, another(item.kind, draws[15], len(self.kinds)), item.cell)
            else:
                item = Item(another(item.color, draws[15], len(COLORS)), item.size, item.kind, item.cell)
        here = any(other.color == item.color and other.kind == item.kind for other in self.items)
        return Question("existence", f"is there {with_article(self.name(item))} ?", yes_or_no(here))


@dataclass(frozen=True, slots=True)
class Arrows(Shapes):
    """One to three arrows that point in different directions."""

    family: ClassVar[str] = "arrow"
    kinds: ClassVar[tuple[str, ...]] = DIRECTIONS
    plural: ClassVar[str] = "arrows"

    def full_name(self, item: Item) -> str:
        """Arrows come in one size, which a caption does not name."""
        return f"{COLORS[item.color]} {DIRECTIONS[item.kind]} arrow"

    def name(self, item: Item) -> str:
        """The same as its full name."""
        return self.full_name(item)

    def noun(self, item: Item) -> str:
        """Told apart by direction."""
        return f"{DIRECTIONS[item.kind]} arrow"

    def sprite(self, item: Item) -> tuple[str | int, ...]:
        """Key into the atlas."""
        return ("arrow", item.kind)


@dataclass(frozen=True, slots=True)
class Count:
    """Two to eight equal objects."""

    family: ClassVar[str] = "count"
    color: int
    shape: int
    size: int
    cells: tuple[int, ...]

    @classmethod
    def sample(cls, draws: Draws) -> Self:
        """How many, of what, where."""
        cells = tuple(distinct_cells(draws[1], 2 + draws[0] % 7))
        return cls(draws[2] % len(COLORS), draws[3] % len(SHAPES), draws[5] % 2, cells)

    def phrase(self) -> str:
        """Number, size, colour, shape."""
        return f"{NUMBERS[len(self.cells)]} {SIZES[self.size]} {COLORS[self.color]} {PLURALS[SHAPES[self.shape]]}"

    def cell_words(self) -> list[str]:
        """The same words in each cell that holds an object: the reader has to count."""
        name = f"{SIZES[self.size]} {COLORS[self.color]} {SHAPES[self.shape]}"
        return [name if cell in self.cells else "" for cell in range(CELLS)]

    def place(self, atlas: Atlas, draws: Draws) -> Placed:
        """One sprite a cell, each in a variant of its own."""
        placed = Placed.empty()
        for i, cell in enumerate(self.cells):
            placed.put(atlas, cell, (SHAPES[self.shape], self.size), self.color, draws[6 + i])
        return placed

    def questions(self, draws: Draws) -> list[Question]:
        """Count, attribute, existence."""
        plural = PLURALS[SHAPES[self.shape]]
        asked = self.shape if draws[14] % 2 else another(self.shape, draws[15], len(SHAPES))
        return [
            Question("count", f"how many {plural} are there ?", NUMBERS[len(self.cells)]),
            Question("attribute", f"what color are the {plural} ?", COLORS[self.color]),
            Question("existence", f"are there {PLURALS[SHAPES[asked]]} ?", yes_or_no(asked == self.shape)),
        ]
