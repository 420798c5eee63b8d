"""Where a suite's pictures and choices come from: the split's own random integers, in blocks that nothing else uses.

A picture's content is drawn as the world draws a scene, with the family given instead of drawn, so that a suite can
take as many pictures of each family as it needs.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from fedcmp.evaluation.suites.items import Picture
from fedcmp.world.content import Content
from fedcmp.world.randomness import SLOTS_PER_INDEX, random_integers
from fedcmp.world.scene import TEST_SEED, VALIDATION_SEED
from fedcmp.world.words import STYLES

Choice = TypeVar("Choice")
Family = TypeVar("Family", bound=Content)
SEEDS = {"test": TEST_SEED, "validation": VALIDATION_SEED}
_BLOCK = 10_000_000  # indices a suite; scenes of captions and questions lie below the first block
_CHOICES = 5_000_000  # the second half of a block holds the suite's own choices
_REFILL = 64


class Stream:
    """Pictures and choices of one suite on one split, in the order in which they are asked for.

    Args:
        split: "test" or "validation".
        number: of the suite, from 0; each has a block of its own.
    """

    def __init__(self, split: str, number: int) -> None:
        self._seed = SEEDS[split]
        self._next_scene = _BLOCK * (number + 1)
        self._next_choice = self._next_scene + _CHOICES
        self._choices: list[int] = []

    def content(self, family: type[Family], where: Callable[[Family], bool] | None = None) -> tuple[Family, Picture]:
        """The next picture of a family, with its content; `where` passes over those that do not fit."""
        while True:
            draws = random_integers(self._seed, np.array([self._next_scene]))[0]
            self._next_scene += 1
            content = family.sample(draws.tolist())
            if where is None or where(content):
                return content, Picture(content, int(draws[31]) % len(STYLES), draws)

    def below(self, limit: int) -> int:
        """A number from 0 to limit - 1."""
        if not self._choices:
            block = np.arange(self._next_choice, self._next_choice + _REFILL)
            self._choices = random_integers(self._seed, block, SLOTS_PER_INDEX).ravel().tolist()
            self._next_choice += _REFILL
        return self._choices.pop() % limit

    def one_of(self, options: Sequence[Choice]) -> Choice:
        """One of the options."""
        return options[self.below(len(options))]

    def some_of(self, options: Sequence[Choice], count: int) -> list[Choice]:
        """`count` different ones of the options, in random order."""
        left, out = list(options), []
        for _ in range(count):
            out.append(left.pop(self.below(len(left))))
        return out

    def shuffled(self, options: Sequence[Choice]) -> list[Choice]:
        """All options in random order."""
        return self.some_of(options, len(options))


class InTurn:
    """Values in turn, each equally often: what keeps the answers of a category balanced."""

    def __init__(self, stream: Stream, values: Sequence[int]) -> None:
        self._stream, self._values, self._left = stream, list(values), list[int]()

    def __call__(self) -> int:
        """The next value; a new random order whenever all have been given."""
        if not self._left:
            self._left = self._stream.shuffled(self._values)
        return self._left.pop()
