"""POPE (Li et al. 2023, arXiv 2305.10355): is an object there? Half of the questions are about objects that are not.

Each picture is asked about one object that it shows, and about three that it does not: a random one, a popular one
(of the most frequent in the suite's pictures) and an adversarial one (it shares a part with what is there: the same
noun in another colour, the same colour in another direction, another pattern or shape of the same family). The first
question counts in each of the three splits, so that half of each split's answers are yes.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from fedcmp.evaluation.suites.choosing import Stream
from fedcmp.evaluation.suites.items import Item, Picture, SuiteItems, asked
from fedcmp.evaluation.suites.rules import Floats, Rule
from fedcmp.world.content import Content
from fedcmp.world.families_objects import Arrows, Count, Shapes
from fedcmp.world.families_pictures import Chart, Texture
from fedcmp.world.words import COLORS, DIRECTIONS, PLURALS, SHAPES, TEXTURES, with_article

# More of the families about which the LLM answers existence well. None of mixed shapes: it says no to nearly every
# "red circle" that is there, so they are only asked about where they are absent.
PICTURES: dict[type[Content], int] = {Chart: 84, Texture: 72, Count: 60, Arrows: 36}
SPLITS = ("random", "popular", "adversarial")
POPULAR = 12  # how many of the most frequent objects the popular split asks about
PRESENT = "present"

BARS = tuple(f"{color} bar" for color in COLORS)
ARROWS = tuple(f"{color} {direction} arrow" for color in COLORS for direction in DIRECTIONS)
SINGLE_SHAPES = tuple(f"{color} {shape}" for color in COLORS for shape in SHAPES)
OBJECTS: dict[type[Content], tuple[str, ...]] = {
    Chart: BARS,
    Texture: TEXTURES,
    Count: tuple(PLURALS.values()),
    Arrows: ARROWS,
    Shapes: SINGLE_SHAPES,
}


def objects_in(content: Content) -> list[str]:
    """The objects that a picture shows, as questions name them."""
    if isinstance(content, Chart):
        return [BARS[color] for color in content.colors]
    if isinstance(content, Texture):
        return [TEXTURES[content.texture]]
    if isinstance(content, Count):
        return [PLURALS[SHAPES[content.shape]]]
    if isinstance(content, Arrows):
        return [content.name(item) for item in content.items]
    return []


def nearly_in(content: Content) -> set[str]:
    """Neither clearly there nor clearly absent: "a red star" where there are several."""
    return {f"{COLORS[content.color]} {SHAPES[content.shape]}"} if isinstance(content, Count) else set()


def existence(name: str) -> str:
    """The question whether an object is there, as the LLM has learned it."""
    if name in TEXTURES or name in PLURALS.values():
        return f"are there {name} ?"
    return f"is there {with_article(name)} ?"


def build(split: str, number: int) -> SuiteItems:
    """252 pictures, four questions each: 504 answers a split."""
    stream = Stream(split, number)
    pictures: list[Picture] = []
    for family, count in PICTURES.items():
        pictures += [stream.content(family)[1] for _ in range(count)]
    seen = Counter(name for picture in pictures for name in objects_in(picture.content))
    popular = sorted(seen, key=lambda name: (-seen[name], name))[:POPULAR]
    items: list[Item] = []

    def ask(picture: int, category: str, name: str, answer: str) -> None:
        items.append(Item(picture, picture, category, asked(existence(name)), answer=answer, options=("yes", "no")))

    for i, picture in enumerate(pictures):
        there = objects_in(picture.content)
        excluded = {*there, *nearly_in(picture.content)}
        ask(i, PRESENT, stream.one_of(there), "yes")
        family = stream.one_of(list(OBJECTS))
        absent = {
            "random": [name for name in OBJECTS[family] if name not in excluded],
            "popular": [name for name in popular if name not in excluded],
            "adversarial": [name for name in _alike(picture.content, stream) if name not in excluded],
        }
        for category in SPLITS:
            ask(i, category, stream.one_of(absent[category]), "no")
    return SuiteItems(pictures, items)


def _alike(content: Content, stream: Stream) -> list[str]:
    """Objects that share a part with one that is there."""
    if not isinstance(content, Arrows):
        return list(OBJECTS[type(content)])
    item = stream.one_of(content.items)
    if stream.below(2):
        return [f"{color} {content.noun(item)}" for color in COLORS]
    return [f"{COLORS[item.color]} {direction} arrow" for direction in DIRECTIONS]


class Pope(Rule):
    """POPE (arXiv 2305.10355): mean over the three splits of F1, yes being the positive class, in per cent.

    Columns, for each split: yes to a present object (tp), yes to an absent one (fp), anything else to a present one
    (fn), no to an absent one (tn), neither yes nor no to an absent one: wrong, but no yes.
    """

    def marks(self, answers: Sequence[str]) -> Floats:
        """(U, splits x 5) counts."""
        counts = np.zeros((len(self.units), len(SPLITS), 5))
        for item, said in zip(self.items, answers, strict=True):
            row = self.place(item)
            if item.category == PRESENT:  # belongs to every split
                counts[row, :, 0 if said == "yes" else 2] += 1
            else:
                column = {"yes": 1, "no": 3}.get(said, 4)
                counts[row, SPLITS.index(item.category), column] += 1
        return counts.reshape(len(self.units), -1)

    def score(self, sums_XC: Floats) -> Floats:
        """F1 = 2 tp / (2 tp + fp + fn), mean over splits."""
        tp, fp, fn = (sums_XC[..., which::5] for which in range(3))
        f1: Floats = (200 * tp / np.maximum(2 * tp + fp + fn, 1)).mean(-1)
        return f1

    def detail(self, answers: Sequence[str]) -> dict[str, Any]:
        """Accuracy, precision, recall, F1 and the share of yes, a split and in all, in per cent."""
        counts = self.marks(answers).sum(0).reshape(len(SPLITS), 5)
        return {name: _figures(counts[i]) for i, name in enumerate(SPLITS)} | {"overall": _figures(counts.sum(0))}

    def chance(self) -> float:
        """Always yes: precision one half, recall one, F1 two thirds; its accuracy is one half."""
        return float(self.score(self.marks(["yes"] * len(self.items)).sum(0)))


def _figures(counts: Floats) -> dict[str, float]:
    tp, fp, fn, tn, _ = counts.tolist()
    return {
        "accuracy": 100 * (tp + tn) / counts.sum(),
        "precision": 100 * tp / max(tp + fp, 1),
        "recall": 100 * tp / max(tp + fn, 1),
        "f1": 200 * tp / max(2 * tp + fp + fn, 1),
        "yes": 100 * (tp + fp) / counts.sum(),
    }
