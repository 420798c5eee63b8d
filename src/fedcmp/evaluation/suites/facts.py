"""What a description states, as facts: the common coin of the rule-based judge.

    facts_in("a photo of a large red star at the top left .")
    -> {"style photo", "object star", "size star large", "color star red", "row star top", "column star left"}

Descriptions are read with the grammar of the world's captions; words that fit nowhere state nothing. Relations are
brought to one form: "a right of b" is "left b a", "a below b" is "above b a".
"""

import dataclasses
import re
from collections.abc import Iterable

from fedcmp.evaluation.suites.items import Picture
from fedcmp.world.content import Content
from fedcmp.world.families_objects import Shapes
from fedcmp.world.words import (
    COLORS,
    COLUMNS,
    DIRECTIONS,
    MOODS,
    NUMBERS,
    PLURALS,
    ROWS,
    SHAPES,
    SIZES,
    STYLES,
    TEXTURES,
    WRITTEN_WORDS,
)


def _one_of(words: Iterable[str]) -> str:
    return f"(?:{'|'.join(words)})"


_COLOR, _SIZE, _ROW, _COLUMN = _one_of(COLORS), _one_of(SIZES), _one_of(ROWS), _one_of(COLUMNS)
_STYLE = re.compile(rf"\b{_one_of(STYLES)}\b")
_OBJECT = re.compile(
    rf"(?:\b({_SIZE}) )?(?:\b({_COLOR}) )?\b({_one_of(SHAPES)}|{_one_of(DIRECTIONS)} arrow)\b"
    rf"(?: at the ({_ROW}) ({_COLUMN})\b)?"
)
_BETWEEN = re.compile(r" (left of|right of|above|below) an? ")
_MANY = re.compile(rf"(?:\b({_one_of(NUMBERS)}) )?(?:\b({_SIZE}) )?(?:\b({_COLOR}) )?\b({_one_of(PLURALS.values())})\b")
_BARS = re.compile(r"\bchart with ([a-z, ]*?) ?bars\b")
_TALLEST = re.compile(rf"\b({_COLOR}) bar is the tallest\b")
_PATTERN = re.compile(rf"(?:\b({_COLOR}) )?\b({_one_of(TEXTURES)})\b")
_FACE = re.compile(rf"(?:\b({_one_of(MOODS)}) )?(?:\b({_COLOR}) )?\bface\b(?: with (no )?(glasses)\b)?")
_TEXT = re.compile(
    rf"\bthe (word|number)(?: ({_one_of(WRITTEN_WORDS)}|[0-9](?: [0-9])*))?\b"
    rf"(?: in ({_COLOR})\b)?(?: at the ({_ROW})\b)?"
)


def facts_in(text: str) -> frozenset[str]:
    """The facts that a description states.

    Args:
        text: words separated by spaces, as the LLM writes them.

    Returns:
        Facts such as "color star red"; none for a text that describes nothing.
    """
    text = " ".join(text.lower().split())
    stated = {f"style {style}" for style in _STYLE.findall(text)}
    stated |= _objects(text)
    for count, size, color, plural in _MANY.findall(text):
        stated |= _of(plural, count=count, size=size, color=color)
    for colors in _BARS.findall(text):
        stated |= {"object chart"} | {f"bar {i} {color}" for i, color in enumerate(re.findall(_COLOR, colors), 1)}
    stated |= {f"tallest {color}" for color in _TALLEST.findall(text)}
    for color, pattern in _PATTERN.findall(text):
        stated |= _of(pattern, color=color)
    for mood, color, without, glasses in _FACE.findall(text):
        worn = ("no" if without else "yes") if glasses else ""
        stated |= _of("face", mood=mood, color=color, glasses=worn)
    for kind, written, color, row in _TEXT.findall(text):
        stated |= _of(kind, color=color, row=row)
        stated |= {f"written {i} {what}" for i, what in enumerate(written.split(), 1)}
    return frozenset(stated)


def _objects(text: str) -> set[str]:
    stated: set[str] = set()
    before: re.Match[str] | None = None
    for found in _OBJECT.finditer(text):
        size, color, noun, row, column = found.groups("")
        stated |= _of(noun, size=size, color=color, row=row, column=column)
        between = _BETWEEN.fullmatch(text[before.end() : found.start()]) if before else None
        if before and between:
            stated.add(_relation(before[3], between[1], noun))
        before = found
    return stated


def _of(noun: str, **stated: str) -> set[str]:
    """That a thing is there, and what is said of it; what is empty was not stated."""
    return {f"object {noun}"} | {f"{name} {noun} {value}" for name, value in stated.items() if value}


def _relation(first: str, relation: str, second: str) -> str:
    if relation in ("right of", "below"):
        first, second = second, first
    return f"{'left' if relation in ('left of', 'right of') else 'above'} {first} {second}"


def references(content: Content) -> tuple[tuple[str, ...], ...]:
    """The facts of each way in which a caption may describe the content, its style excepted.

    Two objects are described by their places or by their relation; all else in one way.
    """
    phrases = [content.phrase()]
    if isinstance(content, Shapes) and len(content.items) == 2:
        phrases = [dataclasses.replace(content, by_relation=how).phrase() for how in (False, True)]
    return tuple(tuple(sorted(facts_in(phrase))) for phrase in phrases)


def truth(picture: Picture) -> tuple[str, ...]:
    """All facts that are true of a picture: those of every description, its style, and how all its objects lie."""
    true = {fact for facts in references(picture.content) for fact in facts} | {f"style {STYLES[picture.style]}"}
    if isinstance(picture.content, Shapes):
        placed = [(picture.content.noun(item), *divmod(item.cell, 3)) for item in picture.content.items]
        for first, row_1, column_1 in placed:
            for second, row_2, column_2 in placed:
                true |= {f"left {first} {second}"} if column_1 < column_2 else set()
                true |= {f"above {first} {second}"} if row_1 < row_2 else set()
    return tuple(sorted(true))
