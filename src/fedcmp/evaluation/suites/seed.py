"""SEED-Bench (Li et al. 2023, arXiv 2307.16125): four options, ranked by the likelihood that the LLM gives to each.

Nine dimensions as in the original's pictures; instance interaction, which the world does not have, is replaced by
emotion (from SEED-Bench-2). Where the LLM knows no question, the prompt is the beginning of a caption and the options
are its continuations ("this photo shows a small red star at the": "top left", ...).
"""

from collections.abc import Callable, Sequence
from typing import Any

from fedcmp.evaluation.suites.choosing import InTurn, Stream
from fedcmp.evaluation.suites.items import Item, Picture, SuiteItems, asked
from fedcmp.evaluation.suites.rules import ShareRight
from fedcmp.world.families_objects import Arrows, Count, Shapes
from fedcmp.world.families_objects import Item as Thing
from fedcmp.world.families_pictures import Chart, Face
from fedcmp.world.families_text import ORDINALS, Number, Word
from fedcmp.world.words import (
    COLORS,
    COLUMNS,
    DIGITS,
    DIRECTIONS,
    MOODS,
    NUMBERS,
    PLURALS,
    ROWS,
    SHAPES,
    SIZES,
    STYLES,
    WRITTEN_WORDS,
    with_article,
)

QUESTIONS = 60  # a dimension
OPTIONS = 4
CELL_NAMES = tuple(f"{row} {column}" for row in ROWS for column in COLUMNS)

Ranked = tuple[Picture, str, str, list[str]]  # a picture, the prompt, the answer, the other options


def _others(stream: Stream, words: Sequence[str], answer: str) -> list[str]:
    return stream.some_of([word for word in words if word != answer], OPTIONS - 1)


class _Dimensions:
    """Makes the questions of each dimension; answers come in turn where there are few of them."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._shape, self._style = InTurn(stream, range(len(SHAPES))), InTurn(stream, range(len(STYLES)))
        self._color, self._mood = InTurn(stream, range(len(COLORS))), InTurn(stream, range(len(MOODS)))
        self._cell, self._direction = InTurn(stream, range(9)), InTurn(stream, range(len(DIRECTIONS)))
        self._count = InTurn(stream, range(2, 9))

    def scene(self, turn: int) -> Ranked:
        """The kind of picture, whatever it shows."""
        style = self._style()
        family = (Shapes, Count, Word, Number, Chart, Arrows)[turn % 6]
        while True:
            _, picture = self.stream.content(family)
            if picture.style == style:
                break
        return picture, asked("what kind of picture is this ?"), STYLES[style], self._words(STYLES, STYLES[style])

    def identity(self, turn: int) -> Ranked:
        """What the only object of that size and colour is, or where the only arrow of that colour points."""
        if turn % 2:
            direction = self._direction()
            arrows, picture = self.stream.content(
                Arrows,
                lambda arrows: (
                    arrows.items[0].kind == direction
                    and all(item.color != arrows.items[0].color for item in arrows.items[1:])
                ),
            )
            answer, words = DIRECTIONS[direction], list(DIRECTIONS)
            said = with_article(COLORS[arrows.items[0].color])
        else:
            shape = self._shape()
            shapes, picture = self.stream.content(
                Shapes,
                lambda shapes: (
                    shapes.items[0].kind == shape
                    and all(_size_and_color(item) != _size_and_color(shapes.items[0]) for item in shapes.items[1:])
                ),
            )
            answer, words = SHAPES[shape], list(SHAPES)
            said = with_article(_size_and_color(shapes.items[0]))
        return picture, f"this {picture.kind} shows {said}", answer, self._words(words, answer)

    def attribute(self, _turn: int) -> Ranked:
        """The colour of one of two or three objects."""
        color = self._color()
        shapes, picture = self.stream.content(
            Shapes, lambda shapes: len(shapes.items) > 1 and any(item.color == color for item in shapes.items)
        )
        item = self.stream.one_of([item for item in shapes.items if item.color == color])
        answer = COLORS[color]
        return picture, asked(f"what color is the {shapes.noun(item)} ?"), answer, self._words(COLORS, answer)

    def location(self, _turn: int) -> Ranked:
        """The cell of the first object."""
        cell = self._cell()
        shapes, picture = self.stream.content(Shapes, lambda shapes: shapes.items[0].cell == cell)
        said = with_article(shapes.full_name(shapes.items[0]))
        answer = CELL_NAMES[cell]
        return picture, f"this {picture.kind} shows {said} at the", answer, self._words(CELL_NAMES, answer)

    def counting(self, _turn: int) -> Ranked:
        """How many objects of one kind."""
        number = self._count()
        content, picture = self.stream.content(Count, lambda count: len(count.cells) == number)
        question = f"how many {PLURALS[SHAPES[content.shape]]} are there ?"
        return picture, asked(question), NUMBERS[number], self._words(NUMBERS[2:9], NUMBERS[number])

    def relation(self, _turn: int) -> Ranked:
        """Which object lies on one side of another one."""
        shape = self._shape()
        shapes, picture = self.stream.content(
            Shapes,
            lambda shapes: len(shapes.items) == 2 and any(item.kind == shape for item in shapes.items),
        )
        answer = next(item for item in shapes.items if item.kind == shape)
        beside = next(item for item in shapes.items if item.kind != shape)
        absent = [kind for kind in SHAPES if kind not in (SHAPES[shape], SHAPES[beside.kind])]
        question = f"what is {side(answer, beside)} the {shapes.noun(beside)} ?"
        return picture, asked(question), SHAPES[shape], self.stream.some_of(absent, OPTIONS - 1)

    def emotion(self, _turn: int) -> Ranked:
        """A face's mood."""
        mood = self._mood()
        _, picture = self.stream.content(Face, lambda face: face.mood == mood)
        return picture, asked("how does the face feel ?"), MOODS[mood], self._words(MOODS, MOODS[mood])

    def reasoning(self, _turn: int) -> Ranked:
        """The tallest of three bars, one colour more among the options."""
        color = self._color()
        chart, picture = self.stream.content(Chart, lambda chart: chart.colors[chart.tallest] == color)
        bars = [COLORS[other] for other in chart.colors if other != color]
        absent = [other for i, other in enumerate(COLORS) if i not in chart.colors]
        return picture, asked("which bar is the tallest ?"), COLORS[color], [*bars, self.stream.one_of(absent)]

    def text(self, turn: int) -> Ranked:
        """A word, or one digit of a number."""
        if turn % 2:
            word, picture = self.stream.content(Word)
            answer = word.text.lower()
            return picture, asked("which word is written ?"), answer, self._words(WRITTEN_WORDS, answer)
        number, picture = self.stream.content(Number)
        position = turn // 2 % 3
        digit = number.text[position]
        return picture, asked(f"what is the {ORDINALS[position]} digit ?"), digit, self._words(DIGITS, digit)

    def _words(self, words: Sequence[str], answer: str) -> list[str]:
        return _others(self.stream, words, answer)


def _size_and_color(item: Thing) -> str:
    return f"{SIZES[item.size]} {COLORS[item.color]}"


def side(first: Thing, second: Thing) -> str:
    """How the first object lies to the second, as the world's own questions say it."""
    (row_1, column_1), (row_2, column_2) = divmod(first.cell, 3), divmod(second.cell, 3)
    if column_1 != column_2:
        return "left of" if column_1 < column_2 else "right of"
    return "above" if row_1 < row_2 else "below"


def build(split: str, number: int) -> SuiteItems:
    """60 questions a dimension."""
    stream = Stream(split, number)
    make = _Dimensions(stream)
    dimensions: dict[str, Callable[[int], Ranked]] = {
        "scene understanding": make.scene,
        "instance identity": make.identity,
        "instance attribute": make.attribute,
        "instance location": make.location,
        "instance counting": make.counting,
        "spatial relation": make.relation,
        "emotion": make.emotion,
        "visual reasoning": make.reasoning,
        "text recognition": make.text,
    }
    pictures: list[Picture] = []
    items: list[Item] = []
    for dimension, question in dimensions.items():
        for turn in range(QUESTIONS):
            picture, prompt, answer, others = question(turn)
            unit = len(pictures)
            options = tuple(stream.shuffled([answer, *others]))
            items.append(Item(unit, unit, dimension, prompt, how="rank", answer=answer, options=options))
            pictures.append(picture)
    return SuiteItems(pictures, items)


class Seed(ShareRight):
    """SEED-Bench (arXiv 2307.16125): share of questions whose right option is the likeliest."""

    def detail(self, answers: Sequence[str]) -> dict[str, Any]:
        """By dimension."""
        return {"by_dimension": self.by_category(answers)}
