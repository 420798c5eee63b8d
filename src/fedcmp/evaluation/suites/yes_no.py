"""The rules of POPE and MME: yes/no questions, half of them to be answered yes."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fedcmp.evaluation.suites.rules import Floats, Rule
from fedcmp.world.suites.items import Item
from fedcmp.world.suites.pope import PRESENT, SPLITS


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


class Mme(Rule):
    """MME (arXiv 2306.13394): a subtask scores accuracy + accuracy+, each in per cent, hence up to 200; their sum.

    accuracy: share of questions right; accuracy+: share of pictures with both of their questions right.
    """

    def __init__(self, items: Sequence[Item]) -> None:
        super().__init__(items)
        self.highest = 200.0 * len(self.categories)

    def marks(self, answers: Sequence[str]) -> Floats:
        """(U, subtasks x 3): for each subtask whether the picture belongs to it, questions right / 2, both right."""
        right = np.zeros(len(self.units))
        kind = np.zeros(len(self.units), np.int64)
        for item, said in zip(self.items, answers, strict=True):
            right[self.place(item)] += said == item.answer
            kind[self.place(item)] = self.categories.index(item.category)
        member = (kind[:, None] == np.arange(len(self.categories))).astype(np.float64)
        return np.concatenate([member, member * right[:, None] / 2, member * (right == 2)[:, None]], 1)

    def score(self, sums_XC: Floats) -> Floats:
        """100 x (accuracy + accuracy+), summed over subtasks."""
        pictures, half, both = np.split(sums_XC, 3, -1)
        total: Floats = (100 * (half + both) / pictures).sum(-1)
        return total

    def detail(self, answers: Sequence[str]) -> dict[str, Any]:
        """Accuracy, accuracy+ and their sum, a subtask."""
        pictures, half, both = np.split(self.marks(answers).sum(0), 3)
        return {
            name: {
                "accuracy": 100 * half[i] / pictures[i],
                "accuracy+": 100 * both[i] / pictures[i],
                "score": 100 * (half[i] + both[i]) / pictures[i],
            }
            for i, name in enumerate(self.categories)
        }

    def chance(self) -> float:
        """A coin for each question: 50 + 25 a subtask; always yes, or always no, gets 50 + 0."""
        return 75.0 * len(self.categories)
