"""From a model to a suite's score, with its noise and its chance level."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fedcmp.evaluation.suites.answers import answer_suite
from fedcmp.evaluation.suites.items import Item
from fedcmp.evaluation.suites.prepared import Suites
from fedcmp.evaluation.suites.rules import jackknife
from fedcmp.evaluation.suites.table import TABLE
from fedcmp.model.vlm import VLM


@dataclass(frozen=True)
class SuiteScore:
    """A model's score in one suite.

    Attributes:
        suite: its name.
        score: by the benchmark's own rule.
        highest: the best possible score.
        chance: the score of the best guess that does not look at the picture.
        noise: standard error over the suite's units.
        units: how many.
        detail: the figures that the benchmark's paper reports beside its score.
    """

    suite: str
    score: float
    highest: float
    chance: float
    noise: float
    units: int
    detail: dict[str, Any]

    def record(self) -> dict[str, Any]:
        """As plain values, for metrics.jsonl."""
        return asdict(self)


def score_suite(vlm: VLM, suites: Suites, name: str, *, blind: bool = False, batch_size: int = 128) -> SuiteScore:
    """Ask a model all items of a suite and score its answers.

    Args:
        vlm: the model.
        suites: prepared with this model's encoder and tokenizer.
        name: of the suite.
        blind: without the pictures.
        batch_size: rows a pass.
    """
    said = answer_suite(vlm, suites, name, blind=blind, batch_size=batch_size)
    return score_answers(name, suites[name].items, said)


def score_answers(name: str, items: Sequence[Item], said: Sequence[str]) -> SuiteScore:
    """The score of one answer an item, in the items' order."""
    rule = TABLE[name].rule(items)
    marks = rule.marks(said)
    score = float(rule.score(marks.sum(0)))
    return SuiteScore(
        name, score, rule.highest, rule.chance(), jackknife(rule, marks), len(rule.units), rule.detail(said)
    )
