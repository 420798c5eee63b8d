"""MM-Vet (Yu et al. 2023, arXiv 2308.02490): open answers that need several abilities at once, scored 0 to 1.

Abilities: recognition (objects, colours, moods, counts), ocr, spatial, and generation (a description in a sentence).
Knowledge and arithmetic have no counterpart in the world. Categories are combinations such as "ocr+spatial". A
description goes on from "this photo shows"; one-word answers are right or wrong, descriptions get partial credit.
"""

from collections.abc import Callable, Sequence
from typing import Any

from fedcmp.evaluation.suites.choosing import Stream
from fedcmp.evaluation.suites.facts import references, truth
from fedcmp.evaluation.suites.items import Item, Picture, SuiteItems, asked
from fedcmp.evaluation.suites.open_answers import OpenAnswers
from fedcmp.evaluation.suites.seed import side
from fedcmp.world.content import Content
from fedcmp.world.families_objects import Arrows, Count, Shapes
from fedcmp.world.families_pictures import Chart, Face, Texture
from fedcmp.world.families_text import ORDINALS, Number, Word
from fedcmp.world.words import COLORS, DIGITS, MOODS, NUMBERS, PLURALS, SHAPES, STYLES, WRITTEN_WORDS

QUESTIONS = 48  # a combination

OneWord = tuple[Picture, str, str, Sequence[str]]  # a picture, the question, the answer, the words to guess from


def recognition(stream: Stream, turn: int) -> OneWord:
    """In turn: the colour of one of several objects, a mood, a count, the kind of picture."""
    if turn % 4 == 0:
        shapes, picture = stream.content(Shapes, lambda shapes: len(shapes.items) > 1)
        item = stream.one_of(shapes.items)
        return picture, f"what color is the {shapes.noun(item)} ?", COLORS[item.color], COLORS
    if turn % 4 == 1:
        face, picture = stream.content(Face)
        return picture, "how does the face feel ?", MOODS[face.mood], MOODS
    if turn % 4 == 2:
        count, picture = stream.content(Count)
        return picture, f"how many {PLURALS[SHAPES[count.shape]]} are there ?", NUMBERS[len(count.cells)], NUMBERS[2:9]
    _, picture = stream.content(stream.one_of((Shapes, Count, Chart, Texture, Word)))
    return picture, "what kind of picture is this ?", STYLES[picture.style], STYLES


def reading(stream: Stream, _turn: int) -> OneWord:
    """The word that is written."""
    word, picture = stream.content(Word)
    return picture, "which word is written ?", word.text.lower(), WRITTEN_WORDS


def reading_in_place(stream: Stream, turn: int) -> OneWord:
    """One digit of a number, by its place."""
    number, picture = stream.content(Number)
    return picture, f"what is the {ORDINALS[turn % 3]} digit ?", number.text[turn % 3], DIGITS


def seeing_in_place(stream: Stream, turn: int) -> OneWord:
    """In turn: the tallest bar, and what lies on one side of an object."""
    if turn % 2:
        chart, picture = stream.content(Chart)
        return picture, "which bar is the tallest ?", COLORS[chart.colors[chart.tallest]], COLORS
    shapes, picture = stream.content(Shapes, lambda shapes: len(shapes.items) == 2)
    first, second = stream.shuffled(shapes.items)
    beside = shapes.noun(second)
    others = [shape for shape in SHAPES if shape != beside]
    return picture, f"what is {side(first, second)} the {beside} ?", SHAPES[first.kind], others


ONE_WORD: dict[str, Callable[[Stream, int], OneWord]] = {
    "recognition": recognition,
    "ocr": reading,
    "recognition+spatial": seeing_in_place,
    "ocr+spatial": reading_in_place,
}
DESCRIBED: dict[str, tuple[type[Content], ...]] = {
    "recognition+generation": (Face, Texture, Count),
    "recognition+spatial+generation": (Shapes, Arrows, Chart),
    "recognition+ocr+spatial+generation": (Word, Number),
}


def one_word(number: int, category: str, question: str, answer: str, options: Sequence[str]) -> Item:
    """An item that asks for one word."""
    return Item(number, number, category, asked(question), answer=answer, options=tuple(options))


def description(picture: Picture, number: int, category: str, prompt: str, *, with_style: bool) -> Item:
    """An item that asks for a description, with the facts of its references."""
    style = (f"style {STYLES[picture.style]}",) if with_style else ()
    facts = tuple(tuple(sorted({*reference, *style})) for reference in references(picture.content))
    return Item(number, number, category, prompt, how="text", references=facts, truth=truth(picture))


def build(split: str, number: int) -> SuiteItems:
    """48 items a combination."""
    stream = Stream(split, number)
    pictures: list[Picture] = []
    items: list[Item] = []
    for combination, make in ONE_WORD.items():
        for turn in range(QUESTIONS):
            picture, question, answer, options = make(stream, turn)
            items.append(one_word(len(pictures), combination, question, answer, options))
            pictures.append(picture)
    for combination, families in DESCRIBED.items():
        for turn in range(QUESTIONS):
            _, picture = stream.content(families[turn % len(families)])
            prompt = f"this {picture.kind} shows"
            items.append(description(picture, len(pictures), combination, prompt, with_style=False))
            pictures.append(picture)
    return SuiteItems(pictures, items)


class MMVet(OpenAnswers):
    """MM-Vet (arXiv 2308.02490): mean of the answers' marks, each between 0 and 1, in per cent."""

    def detail(self, answers: Sequence[str]) -> dict[str, Any]:
        """By combination of abilities, and by ability: the mean over all items that need it."""
        marks = self.item_marks(answers)
        abilities = list(dict.fromkeys(name for category in self.categories for name in category.split("+")))
        needs = {name: [name in item.category.split("+") for item in self.items] for name in abilities}
        return {
            "by_ability": {name: float(100 * marks[needed].mean()) for name, needed in needs.items()},
            "by_combination": self.by_category(answers),
        }
