"""MME (Fu et al. 2023, arXiv 2306.13394): two yes/no questions a picture, one to be answered yes, the other no.

Five subtasks of perception. Left out, because the frozen LLM answers no yes/no question about them better than chance:
counting and relative position; the world has no posters, celebrities, landmarks or artworks, and no cognition tasks.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fedcmp.evaluation.suites.choosing import Stream
from fedcmp.evaluation.suites.items import Item, Picture, SuiteItems, asked
from fedcmp.evaluation.suites.pope import OBJECTS, existence, objects_in
from fedcmp.evaluation.suites.rules import Floats, Rule
from fedcmp.world.content import another
from fedcmp.world.families_objects import Arrows, Count
from fedcmp.world.families_pictures import Chart, Texture
from fedcmp.world.families_text import Word
from fedcmp.world.words import COLORS, DIRECTIONS, TEXTURES, WRITTEN_WORDS, with_article

PICTURES = 60  # a subtask

Pair = tuple[Picture, str, str]  # a picture, the question to be answered yes, the one to be answered no


def _existence(stream: Stream, turn: int) -> Pair:
    """Something of this family, and something that only other families show."""
    families = (Chart, Texture, Count)
    family = families[turn % len(families)]
    content, picture = stream.content(family)
    other = stream.one_of([kind for kind in families if kind is not family])
    return picture, existence(stream.one_of(objects_in(content))), existence(stream.one_of(OBJECTS[other]))


def _color(stream: Stream, turn: int) -> Pair:
    """The same noun in a colour that it has and in one that it has not."""
    if turn % 2:
        content, picture = stream.content(Arrows, lambda arrows: len(arrows.items) == 1)
        item, noun = content.items[0], content.noun(content.items[0])
        return picture, _is_there(item.color, noun), _is_there(_other_color(stream, {item.color}), noun)
    chart, picture = stream.content(Chart)
    there = stream.one_of(chart.colors)
    return picture, _is_there(there, "bar"), _is_there(_other_color(stream, set(chart.colors)), "bar")


def _is_there(color: int, noun: str) -> str:
    return f"is there {with_article(f'{COLORS[color]} {noun}')} ?"


def _other_color(stream: Stream, there: set[int]) -> int:
    return stream.one_of([color for color in range(len(COLORS)) if color not in there])


def _direction(stream: Stream, _turn: int) -> Pair:
    """An arrow's own direction and another one, the colour given."""
    content, picture = stream.content(Arrows, lambda arrows: len(arrows.items) == 1)
    item = content.items[0]
    wrong = another(item.kind, stream.below(64), len(DIRECTIONS))
    yes, no = (_is_there(item.color, f"{DIRECTIONS[kind]} arrow") for kind in (item.kind, wrong))
    return picture, yes, no


def _pattern(stream: Stream, _turn: int) -> Pair:
    """The pattern that fills the picture, and another one."""
    content, picture = stream.content(Texture)
    wrong = another(content.texture, stream.below(64), len(TEXTURES))
    return picture, existence(TEXTURES[content.texture]), existence(TEXTURES[wrong])


def _text(stream: Stream, _turn: int) -> Pair:
    """The word that is written, and another one."""
    content, picture = stream.content(Word)
    word = content.text.lower()
    wrong = stream.one_of([other for other in WRITTEN_WORDS if other != word])
    return picture, f"does it say {word} ?", f"does it say {wrong} ?"


SUBTASKS: dict[str, Callable[[Stream, int], Pair]] = {
    "existence": _existence,
    "color": _color,
    "direction": _direction,
    "pattern": _pattern,
    "ocr": _text,
}


def build(split: str, number: int) -> SuiteItems:
    """60 pictures a subtask, two questions each."""
    stream = Stream(split, number)
    pictures: list[Picture] = []
    items: list[Item] = []
    for subtask, make in SUBTASKS.items():
        for turn in range(PICTURES):
            picture, yes, no = make(stream, turn)
            unit = len(pictures)
            for question, answer in ((yes, "yes"), (no, "no")):
                items.append(Item(unit, unit, subtask, asked(question), answer=answer, options=("yes", "no")))
            pictures.append(picture)
    return SuiteItems(pictures, items)


class Mme(Rule):
    """MME (arXiv 2306.13394): a subtask scores accuracy + accuracy+, each in per cent, hence up to 200; their sum.

    accuracy: share of questions right; accuracy+: share of pictures with both of their questions right.
    """

    def __init__(self, items: Sequence[Item]) -> None:
        super().__init__(items)
        self.highest = 200.0 * len(self.categories)

    def marks(self, answers: Sequence[str]) -> Floats:
        """(U, subtasks x 3): for each subtask whether the picture belongs to it, questions right / 2, both right."""
        right = np.zeros(len(self.units))
        kind = np.zeros(len(self.units), np.int64)
        for item, said in zip(self.items, answers, strict=True):
            right[self.place(item)] += said == item.answer
            kind[self.place(item)] = self.categories.index(item.category)
        member = (kind[:, None] == np.arange(len(self.categories))).astype(np.float64)
        return np.concatenate([member, member * right[:, None] / 2, member * (right == 2)[:, None]], 1)

    def score(self, sums_XC: Floats) -> Floats:
        """100 x (accuracy + accuracy+), summed over subtasks."""
        pictures, half, both = np.split(sums_XC, 3, -1)
        total: Floats = (100 * (half + both) / pictures).sum(-1)
        return total

    def detail(self, answers: Sequence[str]) -> dict[str, Any]:
        """Accuracy, accuracy+ and their sum, a subtask."""
        pictures, half, both = np.split(self.marks(answers).sum(0), 3)
        return {
            name: {
                "accuracy": 100 * half[i] / pictures[i],
                "accuracy+": 100 * both[i] / pictures[i],
                "score": 100 * (half[i] + both[i]) / pictures[i],
            }
            for i, name in enumerate(self.categories)
        }

    def chance(self) -> float:
        """A coin for each question: 50 + 25 a subtask; always yes, or always no, gets 50 + 0."""
        return 75.0 * len(self.categories)
