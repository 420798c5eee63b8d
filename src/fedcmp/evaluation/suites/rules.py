"""How a suite's answers become one score: marks a unit, summed, and a function of the sums.

A unit is what the benchmark counts together: MME's picture with its two questions, MMBench's question with its
rotations, MMVP's pair. Score = f(sum of the units' marks); its noise is the jackknife's standard error over units,

    sqrt((U - 1) / U * sum_i (f_i - mean f)^2),    f_i: the score without unit i,

which for a mean of right and wrong units is the binomial sqrt(p (1 - p) / (U - 1)).
Shapes: U units, C columns of marks.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedcmp.evaluation.suites.items import Item
from fedcmp.evaluation.suites.judge import mark

Floats = NDArray[np.float64]


class Rule(ABC):
    """One suite's rule over its items."""

    highest: float = 100.0

    def __init__(self, items: Sequence[Item]) -> None:
        self.items = list(items)
        self.categories = list(dict.fromkeys(item.category for item in items))
        self.units = list(dict.fromkeys(item.unit for item in items))
        self._place = {unit: place for place, unit in enumerate(self.units)}

    def place(self, item: Item) -> int:
        """The row of an item's unit."""
        return self._place[item.unit]

    @abstractmethod
    def marks(self, answers: Sequence[str]) -> Floats:
        """(U, C) marks of one answer an item."""

    @abstractmethod
    def score(self, sums_XC: Floats) -> Floats:
        """(..., C) sums of marks -> (...) scores."""

    @abstractmethod
    def detail(self, answers: Sequence[str]) -> dict[str, Any]:
        """Figures behind the score."""

    @abstractmethod
    def chance(self) -> float:
        """The score of the best guess that does not look at the picture."""


def jackknife(rule: Rule, marks_UC: Floats) -> float:
    """Standard error of the score over units.

    Args:
        rule: of the suite.
        marks_UC: (U, C) marks, of at least two units a category.
    """
    count = len(marks_UC)
    without = rule.score(marks_UC.sum(0) - marks_UC)
    return float(np.sqrt((count - 1) / count * ((without - without.mean()) ** 2).sum()))


class ShareRight(Rule):
    """100 x the mean mark of the units; a unit's mark is the least of its items': all of them have to be right."""

    def item_marks(self, answers: Sequence[str]) -> Floats:
        """(items,) marks between 0 and 1."""
        return np.array([mark(item, said) for item, said in zip(self.items, answers, strict=True)])

    def marks(self, answers: Sequence[str]) -> Floats:
        """(U, 2 x categories): for each category whether the unit belongs to it, and its mark if so."""
        least = np.ones(len(self.units))
        kind = np.zeros(len(self.units), np.int64)
        for item, value in zip(self.items, self.item_marks(answers), strict=True):
            row = self.place(item)
            least[row] = min(least[row], value)
            kind[row] = self.categories.index(item.category)
        member = kind[:, None] == np.arange(len(self.categories))
        return np.concatenate([member, member * least[:, None]], 1).astype(np.float64)

    def score(self, sums_XC: Floats) -> Floats:
        """Sum of marks over number of units, in per cent."""
        kinds = len(self.categories)
        share: Floats = 100 * sums_XC[..., kinds:].sum(-1) / sums_XC[..., :kinds].sum(-1)
        return share

    def by_category(self, answers: Sequence[str]) -> dict[str, float]:
        """Each category's own score."""
        sums = self.marks(answers).sum(0)
        kinds = len(self.categories)
        return {name: float(100 * sums[kinds + i] / sums[i]) for i, name in enumerate(self.categories)}

    def chance(self) -> float:
        """Guessing one of the options of each item, each guess for itself."""
        guess = np.ones(len(self.units))
        for item in self.items:
            guess[self.place(item)] /= len(item.options)
        return float(100 * guess.mean())
