"""What the rules of MM-Vet and LLaVA-Bench share: marks by the rule-based judge instead of GPT-4."""

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
