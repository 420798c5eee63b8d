"""The rules of MM-Vet and LLaVA-Bench: marks by the rule-based judge instead of GPT-4."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fedcmp.evaluation.suites.judge import description_mark
from fedcmp.evaluation.suites.rules import ShareRight


class OpenAnswers(ShareRight):
    """100 x the mean mark; guesses are words of the right kind, and descriptions of other pictures."""

    def chance(self) -> float:
        """A word of the kind that is asked for; the reference description of another picture of the category."""
        guesses = []
        for item in self.items:
            if item.how != "text":
                guesses.append(1 / len(item.options))
                continue
            asked_alike = [o for o in self.items if o.category == item.category and o.how == "text" and o is not item]
            marks = [description_mark(frozenset(other.references[0]), item) for other in asked_alike]
            guesses.append(float(np.mean(marks)) if marks else 0.0)
        return float(100 * np.mean(guesses))


class MMVet(OpenAnswers):
    """MM-Vet (arXiv 2308.02490): mean of the answers' marks, each between 0 and 1, in per cent."""

    def detail(self, answers: Sequence[str]) -> dict[str, Any]:
        """By combination of abilities, and by ability: the mean over all items that need it."""
        marks = self.item_marks(answers)
        abilities = list(dict.fromkeys(name for category in self.categories for name in category.split("+")))
        needs = {name: [name in item.category.split("+") for item in self.items] for name in abilities}
        return {
            "by_ability": {name: float(100 * marks[needed].mean()) for name, needed in needs.items()},
            "by_combination": self.by_category(answers),
        }


class LLaVABench(OpenAnswers):
    """LLaVA-Bench (arXiv 2304.08485): sum of the answers' marks over the sum of the references', in per cent.

    A reference's mark is 1 by the judge's definition, so the score is the mean mark.
    """

    def detail(self, answers: Sequence[str]) -> dict[str, Any]:
        """By category."""
        return {"by_category": self.by_category(answers)}
