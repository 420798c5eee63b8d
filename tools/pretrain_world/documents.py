"""Documents for the tiny Llama's pretraining: scenes told in words.

A document is `<bos> prefix <sep> body <eos>`. The body is a caption; questions with answers; a list of words each with
yes or no and what it stands with (checks); or where objects lie, and how they lie to each other (places). The prefix is
mostly nine cells of words (language.py turns them into embeddings); the same words one by one (notes), a
caption, noise alone, or nothing. Loss weights: caption 1, answer 2, question .05.
Shapes: B documents, P = 9 cells, W words a cell, V words.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedcmp.world.content import CELLS, Content
from fedcmp.world.families_objects import Shapes
from fedcmp.world.families_pictures import Chart
from fedcmp.world.randomness import random_integers
from fedcmp.world.scene import Scenes
from fedcmp.world.tokenizer import EMPTY, EOS, PAD, SEPARATOR, SPECIAL_TOKENS, vocabulary
from fedcmp.world.words import COLORS, COLUMNS, DIGITS, DIRECTIONS, LETTERS, MOODS, ROWS, SHAPES, STYLES, TEXTURES

WORDS_A_CELL = 8
# Reading words that stand one by one is what teaches the LLM to match; cells alone would take much longer.
_CHECKS, _RELATIONS = 6, 4  # words checked, and relations stated, in one document
_CHECKED = frozenset(
    {*COLORS, *SHAPES, *DIRECTIONS, *MOODS, *LETTERS, *DIGITS, *(word for t in TEXTURES for word in t.split()), "bar"}
)
_PREFIXES = (*["cells"] * 9, *["notes"] * 6, "caption", "noise", *["none"] * 3)
_QUESTION_WEIGHT, _ANSWER_WEIGHT = 0.05, 2.0
_VARIANTS, _VARIANT_SEED = 4, 7919  # how often a scene is asked about, and the streams of the further questions


class BagEncoder:
    """Turns scenes into bags of words per cell, and texts into ids."""

    def __init__(self) -> None:
        self.ids = {word: i for i, word in enumerate(vocabulary())}
        self.specials = len(SPECIAL_TOKENS)

    def encode(self, text: str) -> list[int]:
        """Ids of words separated by spaces."""
        return [self.ids[word] for word in text.split()]

    def cell_ids(self, scenes: Scenes, *, places: bool = True) -> Tensor:
        """(B, P, W) ids of the words for the style, the cell's place and what it shows, padded with `<pad>`."""
        padding = [self.ids[PAD]] * WORDS_A_CELL
        rows = []
        for content, style in zip(scenes.contents, scenes.styles.tolist(), strict=True):
            for cell, text in enumerate(content.cell_words()):
                where = [self.ids[ROWS[cell // 3]], self.ids[COLUMNS[cell % 3]]] if places else []
                shown = self.encode(text) if text else [self.ids[EMPTY]]
                rows.append(([self.ids[STYLES[style]], *where, *shown, *padding])[:WORDS_A_CELL])
        return torch.tensor(rows).view(len(scenes), CELLS, WORDS_A_CELL)

    def multi_hot(self, scenes: Scenes) -> Tensor:
        """(B, P, V) one where a word describes a cell's style or content, `<pad>` excepted."""
        hot = torch.zeros(len(scenes), CELLS, len(self.ids)).scatter_(2, self.cell_ids(scenes, places=False), 1.0)
        hot[:, :, self.ids[PAD]] = 0
        return hot


@dataclass
class Document:
    """One document: what stands before it, and its tokens from the notes or caption in front of `<sep>` on."""

    prefix: str  # one of _PREFIXES
    row: int  # of its scene in the batch
    ids: list[int]  # after the prefix: <sep> body <eos>, or the caption in front of them
    weights: list[float]


class DocumentWriter:
    """Chooses and writes a document for each scene, by the scene's own random integers."""

    def __init__(self, bags: BagEncoder, bodies: Sequence[str]) -> None:
        self.bags, self.bodies = bags, bodies
        self.separator, self.end = bags.ids[SEPARATOR], bags.ids[EOS]

    def documents(self, scenes: Scenes) -> list[Document]:
        """One document a scene."""
        return [self._document(scenes, row) for row in range(len(scenes))]

    def _document(self, scenes: Scenes, row: int) -> Document:
        draws = scenes.draws[row].tolist()
        caption = self.bags.encode(scenes.captions[row])
        told = {"notes": self._notes(scenes, row, draws), "caption": caption}
        prefix = _PREFIXES[draws[34] % len(_PREFIXES)]
        if not told.get(prefix, [0]):  # too much to tell in words
            prefix = "cells"
        write = {"questions": self._questions, "checks": self._checks, "places": self._places}
        kind = self.bodies[draws[33] % len(self.bodies)]
        body, weights = write[kind](scenes, row) if kind in write else ([], [])
        if not body:
            body, weights = caption, [1.0] * len(caption)
        before = told.get(prefix, [])
        ids, out_weights = [*before, self.separator, *body, self.end], [*[0.0] * (len(before) + 1), *weights, 1.0]
        return Document(prefix, row, ids, out_weights)

    def _checks(self, scenes: Scenes, row: int) -> tuple[list[int], list[float]]:
        """Words with yes or no: does the picture show it? And the words that share a cell with a word it shows.

        The answer follows the word itself: the shortest way to learn to match a word with what the cells show.
        """
        present = sorted({word for text in scenes.contents[row].cell_words() for word in text.split()} & _CHECKED)
        absent = sorted(_CHECKED - set(present))
        draw = random_integers(scenes.seed - 2 * _VARIANT_SEED, scenes.indices[row : row + 1])[0].tolist()
        ids: list[int] = []
        weights: list[float] = []
        for step in range(_CHECKS):
            words = present if draw[2 * step] % 2 else absent
            word = words[draw[2 * step + 1] % len(words)]
            cells = [text.split() for text in scenes.contents[row].cell_words() if word in text.split()]
            said = [word, "yes", *(w for w in cells[0] if w != word), ","] if cells else [word, "no", ","]
            ids += [self.bags.ids[w] for w in said]
            weights += [0.0] + [1.0] * (len(said) - 2) + [0.0]
        return ids, weights

    def _places(self, scenes: Scenes, row: int) -> tuple[list[int], list[float]]:
        """Where the objects are, and how two of them lie to each other, with yes or no; nothing for a single object."""
        objects = _objects(scenes.contents[row])
        if len(objects) < 2:
            return [], []
        draw = random_integers(scenes.seed - 3 * _VARIANT_SEED, scenes.indices[row : row + 1])[0].tolist()
        ids: list[int] = []
        weights: list[float] = []

        def say(text: str, weight: float) -> None:
            said = self.bags.encode(text)
            ids.extend(said)
            weights.extend([weight] * len(said))

        if draw[0] % 2:  # half of the documents have to know the places without being told
            for name, y, x in objects:
                say(name, 0.0)
                say(f"{ROWS[y]} {COLUMNS[x]}", 1.0)
                say(",", 0.0)
        for step in range(_RELATIONS):
            (name_1, y_1, x_1), (name_2, y_2, x_2) = _two(objects, draw[1 + 2 * step])
            sides = [("left of", x_1 < x_2), ("right of", x_1 > x_2)] if x_1 != x_2 else []
            sides += [("above", y_1 < y_2), ("below", y_1 > y_2)] if y_1 != y_2 else []
            relation, true = sides[draw[2 + 2 * step] % len(sides)]
            say(f"{name_1} {relation} {name_2}", 0.0)
            say("yes" if true else "no", _ANSWER_WEIGHT)
            say(",", 0.0)
        return ids, weights

    def _notes(self, scenes: Scenes, row: int, draws: list[int]) -> list[int]:
        """The cells spelled out in words, in any order; nothing where more than three cells show something."""
        words = scenes.contents[row].cell_words()
        shown = [f"{text} {ROWS[cell // 3]} {COLUMNS[cell % 3]} ," for cell, text in enumerate(words) if text]
        if len(shown) > 3:
            return []
        turn = draws[37] % len(shown)
        return self.bags.encode(" ".join([*shown[turn:], *shown[:turn], STYLES[scenes.styles[row]]]))

    def _questions(self, scenes: Scenes, row: int) -> tuple[list[int], list[float]]:
        """Several questions about one scene: many answers a document teach the LLM to look things up."""
        content, index = scenes.contents[row], scenes.indices[row : row + 1]
        asked = {question.text: question for question in scenes.questions[row]}
        for variant in range(1, _VARIANTS):
            others = random_integers(scenes.seed + _VARIANT_SEED * variant, index)[0].tolist()
            asked |= {question.text: question for question in content.questions(others)}
        chosen = list(asked.values())
        order = random_integers(scenes.seed - _VARIANT_SEED, index, len(chosen))[0].argsort(kind="stable").tolist()
        ids: list[int] = []
        weights: list[float] = []
        for i in order[: 2 + int(scenes.draws[row, 36]) % 5]:
            text = self.bags.encode(f"question : {chosen[i].text} answer :")
            ids += [*text, self.bags.ids[chosen[i].answer]]
            weights += [_QUESTION_WEIGHT] * len(text) + [_ANSWER_WEIGHT]
        return ids, weights


def _objects(content: Content) -> list[tuple[str, int, int]]:
    """Name, row and column of the objects that questions about relations name; a chart's bars share a row."""
    if isinstance(content, Shapes):
        return [(content.noun(item), *divmod(item.cell, 3)) for item in content.items]
    if isinstance(content, Chart):
        return [(f"{COLORS[color]} bar", 2, column) for column, color in enumerate(content.colors)]
    return []


def _two(objects: list[tuple[str, int, int]], draw: int) -> tuple[tuple[str, int, int], tuple[str, int, int]]:
    first = draw % len(objects)
    second = (first + 1 + draw // 8 % (len(objects) - 1)) % len(objects)
    return objects[first], objects[second]
