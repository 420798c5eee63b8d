"""MMBench (Liu et al. 2023, arXiv 2307.06281): multiple choice, right only if right for every rotation of the options.

The options stand in the question ("is the star red or blue ?"). The frozen LLM has learned questions with two options,
so each is asked twice, in both orders (circular evaluation); with more it answers by position. The wrong option is any
other colour, mood or word: the LLM cannot tell an object's colour from that of the object beside it better than chance.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fedcmp.evaluation.suites.choosing import Stream
from fedcmp.evaluation.suites.items import Item, Picture, SuiteItems, asked
from fedcmp.evaluation.suites.rules import ShareRight
from fedcmp.world.content import another
from fedcmp.world.families_objects import Arrows, Shapes
from fedcmp.world.families_pictures import Chart, Face
from fedcmp.world.families_text import Word
from fedcmp.world.words import COLORS, MOODS, WRITTEN_WORDS

QUESTIONS = 96  # an ability

Choice = tuple[Picture, str, str, str]  # a picture, the question's beginning, the answer, the other option


def _attribute(stream: Stream) -> Choice:
    """The colour of one of two or three shapes, or any other colour."""
    shapes, picture = stream.content(Shapes, lambda shapes: len(shapes.items) > 1)
    item = stream.one_of(shapes.items)
    wrong = another(item.color, stream.below(64), len(COLORS))
    return picture, f"is the {shapes.noun(item)}", COLORS[item.color], COLORS[wrong]


def _orientation(stream: Stream) -> Choice:
    """The colour of the arrow that points one way."""
    arrows, picture = stream.content(Arrows)
    item = stream.one_of(arrows.items)
    wrong = another(item.color, stream.below(64), len(COLORS))
    return picture, f"is the {arrows.noun(item)}", COLORS[item.color], COLORS[wrong]


def _comparison(stream: Stream) -> Choice:
    """The taller one of two bars, one of which is the tallest."""
    chart, picture = stream.content(Chart)
    wrong = another(chart.tallest, stream.below(64), len(chart.colors))
    return picture, "which bar is taller ,", COLORS[chart.colors[chart.tallest]], COLORS[chart.colors[wrong]]


def _emotion(stream: Stream) -> Choice:
    """A face's mood."""
    face, picture = stream.content(Face)
    return picture, "is the face", MOODS[face.mood], MOODS[another(face.mood, stream.below(64), len(MOODS))]


def _text(stream: Stream) -> Choice:
    """The word that is written."""
    word, picture = stream.content(Word)
    written = word.text.lower()
    wrong = stream.one_of([other for other in WRITTEN_WORDS if other != written])
    return picture, "does it say", written, wrong


ABILITIES: dict[str, Callable[[Stream], Choice]] = {
    "attribute recognition": _attribute,
    "orientation": _orientation,
    "attribute comparison": _comparison,
    "image emotion": _emotion,
    "ocr": _text,
}


def build(split: str, number: int) -> SuiteItems:
    """96 questions an ability, each in both orders of its options."""
    stream = Stream(split, number)
    pictures: list[Picture] = []
    items: list[Item] = []
    for ability, make in ABILITIES.items():
        for _ in range(QUESTIONS):
            picture, beginning, answer, wrong = make(stream)
            options = stream.shuffled([answer, wrong])
            unit = len(pictures)
            for turn in range(len(options)):
                rotated = options[turn:] + options[:turn]
                prompt = asked(f"{beginning} {' or '.join(rotated)} ?")
                items.append(Item(unit, unit, ability, prompt, answer=answer, options=tuple(rotated)))
            pictures.append(picture)
    return SuiteItems(pictures, items)


class MMBench(ShareRight):
    """MMBench (arXiv 2307.06281): a question is right if it is right in all rotations of its options."""

    def detail(self, answers: Sequence[str]) -> dict[str, Any]:
        """By ability; accuracy without rotations (the first order only); how often the first option was chosen."""
        seen: set[int] = set()
        first_order = []
        for item, value in zip(self.items, self.item_marks(answers), strict=True):
            if item.unit not in seen:
                seen.add(item.unit)
                first_order.append(value)
        chosen = [said == item.options[0] for item, said in zip(self.items, answers, strict=True)]
        return {
            "by_ability": self.by_category(answers),
            "one_order": float(100 * np.mean(first_order)),
            "first_option_chosen": float(100 * np.mean(chosen)),
        }

    def chance(self) -> float:
        """A fixed preference among words, the same in all rotations: one over the number of options."""
        guess = {item.unit: 1 / len(item.options) for item in self.items}
        return float(100 * np.mean(list(guess.values())))
