"""POPE (Li et al. 2023, arXiv 2305.10355): is an object there? Half of the questions are about objects that are not.

Each picture is asked about one object that it shows, and about three that it does not: a random one, a popular one
(of the most frequent in the suite's pictures) and an adversarial one (it shares a part with what is there: the same
noun in another colour, the same colour in another direction, another pattern or shape of the same family). The first
question counts in each of the three splits, so that half of each split's answers are yes.
"""

from collections import Counter

from fedcmp.world.content import Content
from fedcmp.world.families_objects import Arrows, Count, Shapes
from fedcmp.world.families_pictures import Chart, Texture
from fedcmp.world.suites.choosing import Stream
from fedcmp.world.suites.items import Item, Picture, SuiteItems, asked
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
