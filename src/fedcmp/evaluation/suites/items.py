"""What a suite is made of: pictures of the world, and items, each a prompt about one picture with its right answer."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fedcmp.world.content import Content
from fedcmp.world.scene import draw_pictures
from fedcmp.world.words import STYLE_PHRASES, STYLES

How = Literal["word", "rank", "text"]


@dataclass(frozen=True, slots=True)
class Item:
    """One prompt about one picture.

    Attributes:
        picture: number into the suite's pictures.
        unit: items of one unit count together (a picture's pair of questions, a question's rotations, a pair of
            pictures); the noise is taken over units.
        category: split, subtask, ability or dimension, as the suite's rule needs it.
        prompt: what the LLM reads after the picture; empty: it writes the caption.
        how: "word": a greedy answer, compared with `answer`; "rank": the most likely of `options`; "text": greedy
            text up to its end, judged by its facts.
        answer: the right answer; empty where `how` is "text".
        options: what a guesser may choose from; empty where the answer is open.
        references: for "text": the facts of each acceptable description.
        truth: for "text": all facts that are true of the picture, named in a description or not.
    """

    picture: int
    unit: int
    category: str
    prompt: str
    how: How = "word"
    answer: str = ""
    options: tuple[str, ...] = ()
    references: tuple[tuple[str, ...], ...] = ()
    truth: tuple[str, ...] = ()


@dataclass(frozen=True)
class Picture:
    """One picture, not drawn yet: its content, its style's number and its (48,) random integers."""

    content: Content
    style: int
    draws: NDArray[np.int64]

    @property
    def kind(self) -> str:
        """How a caption names the style: "photo", "night picture"."""
        return STYLE_PHRASES.get(STYLES[self.style], STYLES[self.style])


@dataclass(frozen=True)
class SuiteItems:
    """A suite on one split: pictures and the items about them."""

    pictures: list[Picture]
    items: list[Item]

    def images(self) -> NDArray[np.uint8]:
        """(n, 48, 48, 3) RGB pictures."""
        return draw(self.pictures)

    def content(self) -> str:
        """The items as JSON, the same text on every machine."""
        return json.dumps([asdict(item) for item in self.items], sort_keys=True)

    def digest(self, images: NDArray[np.uint8]) -> str:
        """sha256 over the items' JSON and the pictures' bytes."""
        return hashlib.sha256(self.content().encode() + images.tobytes()).hexdigest()


def draw(pictures: Sequence[Picture]) -> NDArray[np.uint8]:
    """Draw pictures: (n, 48, 48, 3) uint8, each a function of its own content, style and draws."""
    contents = [picture.content for picture in pictures]
    styles = np.array([picture.style for picture in pictures])
    return draw_pictures(contents, styles, np.stack([picture.draws for picture in pictures]))


def asked(question: str) -> str:
    """A question as the LLM has learned to read it."""
    return f"question : {question} answer :"
