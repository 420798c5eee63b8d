"""LLaVA-Bench (Liu et al. 2023, arXiv 2304.08485): an answer's mark over that of a reference answer.

Three categories as in the original: conversation (one plain question a picture), detail (the caption, from an empty
prompt, against the reference caption's facts) and complex (questions that need two looks: counting, the tallest bar,
what lies beside what, one digit of three).
"""

from collections.abc import Sequence
from typing import Any

from fedcmp.evaluation.suites.choosing import Stream
from fedcmp.evaluation.suites.items import Item, Picture, SuiteItems
from fedcmp.evaluation.suites.mm_vet import (
    OneWord,
    description,
    one_word,
    reading_in_place,
    recognition,
    seeing_in_place,
)
from fedcmp.evaluation.suites.open_answers import OpenAnswers
from fedcmp.world.content import Content
from fedcmp.world.families_objects import Arrows, Count, Shapes
from fedcmp.world.families_pictures import Chart, Face, Texture
from fedcmp.world.families_text import Number, Word
from fedcmp.world.words import COLORS, PLURALS, SHAPES

FAMILIES: tuple[type[Content], ...] = (Shapes, Count, Word, Number, Chart, Texture, Face, Arrows)
WRITINGS: tuple[type[Word] | type[Number], ...] = (Word, Number)
DETAIL, CONVERSATION, COMPLEX = 160, 112, 112


def _plain(stream: Stream, turn: int) -> OneWord:
    """In turn: what `recognition` asks, the colour of a text, of many objects, of a pattern."""
    if turn % 7 < 4:
        return recognition(stream, turn % 7)
    if turn % 7 == 4:
        writing, picture = stream.content(stream.one_of(WRITINGS))
        return picture, "what color is the text ?", COLORS[writing.color], COLORS
    if turn % 7 == 5:
        count, picture = stream.content(Count)
        return picture, f"what color are the {PLURALS[SHAPES[count.shape]]} ?", COLORS[count.color], COLORS
    texture, picture = stream.content(Texture)
    return picture, "what color is the pattern ?", COLORS[texture.color], COLORS


def _complex(stream: Stream, turn: int) -> OneWord:
    """In turn: a count, two questions about places, one digit."""
    if turn % 4 == 0:
        return recognition(stream, 2)
    return reading_in_place(stream, turn // 4) if turn % 4 == 3 else seeing_in_place(stream, turn)


def build(split: str, number: int) -> SuiteItems:
    """112 conversation questions, 160 captions, 112 complex questions."""
    stream = Stream(split, number)
    pictures: list[Picture] = []
    items: list[Item] = []
    for category, make, count in (("conversation", _plain, CONVERSATION), ("complex", _complex, COMPLEX)):
        for turn in range(count):
            picture, question, answer, options = make(stream, turn)
            items.append(one_word(len(pictures), category, question, answer, options))
            pictures.append(picture)
    for turn in range(DETAIL):
        _, picture = stream.content(FAMILIES[turn % len(FAMILIES)])
        items.append(description(picture, len(pictures), "detail", "", with_style=True))
        pictures.append(picture)
    return SuiteItems(pictures, items)


class LLaVABench(OpenAnswers):
    """LLaVA-Bench (arXiv 2304.08485): sum of the answers' marks over the sum of the references', in per cent.

    A reference's mark is 1 by the judge's definition, so the score is the mean mark.
    """

    def detail(self, answers: Sequence[str]) -> dict[str, Any]:
        """By category."""
        return {"by_category": self.by_category(answers)}
