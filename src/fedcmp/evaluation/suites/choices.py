"""The rules of MMBench, SEED-Bench and MMVP: a share of right units, and what else their papers report."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fedcmp.evaluation.suites.rules import ShareRight


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


class Seed(ShareRight):
    """SEED-Bench (arXiv 2307.16125): share of questions whose right option is the likeliest."""

    def detail(self, answers: Sequence[str]) -> dict[str, Any]:
        """By dimension."""
        return {"by_dimension": self.by_category(answers)}


class Mmvp(ShareRight):
    """MMVP (arXiv 2401.06209): share of pairs with both pictures answered rightly."""

    def detail(self, answers: Sequence[str]) -> dict[str, Any]:
        """By visual pattern; accuracy over single pictures."""
        return {
            "by_pattern": self.by_category(answers),
            "single_pictures": float(100 * self.item_marks(answers).mean()),
        }
