"""MMVP (Tong et al. 2024, arXiv 2401.06209): pairs of nearly equal pictures, one question, two different answers.

The second picture is the first with one thing changed: same style, same light, same noise. A pair counts only if both
pictures are answered rightly. Nine visual patterns as in the original; its "viewpoint and perspective", which a flat
grid does not have, is replaced by pattern (of a surface).
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from fedcmp.evaluation.suites.choosing import Stream
from fedcmp.evaluation.suites.items import How, Item, Picture, SuiteItems, asked
from fedcmp.evaluation.suites.rules import ShareRight
from fedcmp.evaluation.suites.seed import CELL_NAMES
from fedcmp.world.content import CELLS, Content, another
from fedcmp.world.families_objects import Arrows, Count, Shapes
from fedcmp.world.families_objects import Item as Thing
from fedcmp.world.families_pictures import Chart, Face, Texture
from fedcmp.world.families_text import ORDINALS, Number, Word
from fedcmp.world.words import (
    COLORS,
    DIGITS,
    DIRECTIONS,
    MOODS,
    NUMBERS,
    PLURALS,
    SHAPES,
    TEXTURES,
    WRITTEN_WORDS,
    with_article,
)

PAIRS = 26  # a visual pattern


@dataclasses.dataclass(frozen=True)
class Pair:
    """A picture, what its twin shows, the prompt about both, and the two answers."""

    picture: Picture
    twin: Content
    prompt: str
    answers: tuple[str, str]
    how: How = "word"


def _either(stream: Stream, first: str, second: str) -> str:
    """The two answers as a choice, in either order."""
    return " or ".join(stream.shuffled([first, second]))


def _orientation(stream: Stream, _turn: int) -> Pair:
    """A single arrow turned; two directions to choose from."""
    arrows, picture = stream.content(Arrows, lambda arrows: len(arrows.items) == 1)
    (item,) = arrows.items
    turned = another(item.kind, stream.below(64), len(DIRECTIONS))
    prompt = f"this {picture.kind} shows {with_article(COLORS[item.color])}"
    twin = _with(arrows, 0, dataclasses.replace(item, kind=turned))
    return Pair(picture, twin, prompt, (DIRECTIONS[item.kind], DIRECTIONS[turned]), how="rank")


def _presence(stream: Stream, turn: int) -> Pair:
    """Glasses put on or off."""
    face, picture = stream.content(Face, lambda face: face.glasses == (turn % 2 == 0))
    answers = ("yes", "no") if face.glasses else ("no", "yes")
    return Pair(
        picture, dataclasses.replace(face, glasses=not face.glasses), asked("does the face wear glasses ?"), answers
    )


def _state(stream: Stream, _turn: int) -> Pair:
    """Another mood."""
    face, picture = stream.content(Face)
    mood = another(face.mood, stream.below(64), len(MOODS))
    moods = MOODS[face.mood], MOODS[mood]
    question = f"is the face {_either(stream, *moods)} ?"
    return Pair(picture, dataclasses.replace(face, mood=mood), asked(question), moods)


def _quantity(stream: Stream, turn: int) -> Pair:
    """One object more, or one less."""
    content, picture = stream.content(Count, lambda count: 2 < len(count.cells) < CELLS - 1)
    number = len(content.cells)
    if turn % 2:
        free = [cell for cell in range(CELLS) if cell not in content.cells]
        cells = (*content.cells, stream.one_of(free))
    else:
        cells = content.cells[:-1]
    question = f"how many {PLURALS[SHAPES[content.shape]]} are there ?"
    return Pair(
        picture, dataclasses.replace(content, cells=cells), asked(question), (NUMBERS[number], NUMBERS[len(cells)])
    )


def _position(stream: Stream, _turn: int) -> Pair:
    """A single object moved to another cell; two places to choose from."""
    shapes, picture = stream.content(Shapes, lambda shapes: len(shapes.items) == 1)
    (item,) = shapes.items
    cell = another(item.cell, stream.below(64), CELLS)
    prompt = f"this {picture.kind} shows {with_article(shapes.full_name(item))} at the"
    twin = _with(shapes, 0, dataclasses.replace(item, cell=cell))
    return Pair(picture, twin, prompt, (CELL_NAMES[item.cell], CELL_NAMES[cell]), how="rank")


def _with(shapes: Shapes, place: int, item: Thing) -> Shapes:
    items: Sequence[Thing] = [item if i == place else other for i, other in enumerate(shapes.items)]
    return dataclasses.replace(shapes, items=tuple(items))


def _color(stream: Stream, _turn: int) -> Pair:
    """One of several objects in another colour."""
    shapes, picture = stream.content(Shapes, lambda shapes: len(shapes.items) > 1)
    place = stream.below(len(shapes.items))
    item = shapes.items[place]
    color = another(item.color, stream.below(64), len(COLORS))
    colors = COLORS[item.color], COLORS[color]
    question = f"is the {shapes.noun(item)} {_either(stream, *colors)} ?"
    return Pair(picture, _with(shapes, place, dataclasses.replace(item, color=color)), asked(question), colors)


def _structure(stream: Stream, _turn: int) -> Pair:
    """The tallest bar and another one swap their heights."""
    chart, picture = stream.content(Chart)
    other = another(chart.tallest, stream.below(64), 3)
    heights = list(chart.heights)
    heights[other], heights[chart.tallest] = heights[chart.tallest], heights[other]
    twin = dataclasses.replace(chart, heights=(heights[0], heights[1], heights[2]), tallest=other)
    bars = COLORS[chart.colors[chart.tallest]], COLORS[chart.colors[other]]
    return Pair(picture, twin, asked(f"which bar is taller , {_either(stream, *bars)} ?"), bars)


def _text(stream: Stream, turn: int) -> Pair:
    """Another word, or another digit in one place."""
    if turn % 2:
        content, picture = stream.content(Word)
        word = content.text.lower()
        other = stream.one_of([written for written in WRITTEN_WORDS if written != word])
        question = f"does it say {_either(stream, word, other)} ?"
        return Pair(picture, dataclasses.replace(content, text=other.upper()), asked(question), (word, other))
    number, picture = stream.content(Number)
    place = turn // 2 % 3
    digit = stream.one_of([digit for digit in DIGITS if digit != number.text[place]])
    twin = dataclasses.replace(number, text=number.text[:place] + digit + number.text[place + 1 :])
    question = f"what is the {ORDINALS[place]} digit ?"
    return Pair(picture, twin, asked(question), (number.text[place], digit))


def _pattern(stream: Stream, turn: int) -> Pair:
    """Another pattern in the same colour."""
    content, picture = stream.content(Texture)
    other = another(content.texture, stream.below(64), len(TEXTURES))
    named, answers = ((content.texture, ("yes", "no")), (other, ("no", "yes")))[turn % 2]
    return Pair(picture, dataclasses.replace(content, texture=other), asked(f"are there {TEXTURES[named]} ?"), answers)


PATTERNS: dict[str, Callable[[Stream, int], Pair]] = {
    "orientation and direction": _orientation,
    "presence of features": _presence,
    "state and condition": _state,
    "quantity and count": _quantity,
    "position": _position,
    "color and appearance": _color,
    "structure": _structure,
    "text": _text,
    "pattern": _pattern,
}


def build(split: str, number: int) -> SuiteItems:
    """26 pairs a pattern."""
    stream = Stream(split, number)
    pictures: list[Picture] = []
    items: list[Item] = []
    for pattern, make in PATTERNS.items():
        for turn in range(PAIRS):
            pair = make(stream, turn)
            unit = len(pictures) // 2
            options = tuple(stream.shuffled(pair.answers))
            for content, answer in zip((pair.picture.content, pair.twin), pair.answers, strict=True):
                items.append(
                    Item(len(pictures), unit, pattern, pair.prompt, how=pair.how, answer=answer, options=options)
                )
                pictures.append(dataclasses.replace(pair.picture, content=content))
    return SuiteItems(pictures, items)


class Mmvp(ShareRight):
    """MMVP (arXiv 2401.06209): share of pairs with both pictures answered rightly."""

    def detail(self, answers: Sequence[str]) -> dict[str, Any]:
        """By visual pattern; accuracy over single pictures."""
        return {
            "by_pattern": self.by_category(answers),
            "single_pictures": float(100 * self.item_marks(answers).mean()),
        }
