import random

import numpy as np
import pytest

from fedcmp.evaluation.suites.scoring import score_answers
from fedcmp.evaluation.suites.yes_no import Mme, Pope
from tests.world.suites.shared import built


def answers(items, *, right, seed=0):
    """Right with a probability, otherwise yes, no or something else."""
    chance = random.Random(seed)
    return [item.answer if chance.random() < right else chance.choice(["yes", "no", "red"]) for item in items]


def test_popes_figures_follow_from_counting():
    items = built("pope")[0].items
    said = answers(items, right=0.5)
    score = score_answers("pope", items, said)
    f1s = []
    for split in ("random", "popular", "adversarial"):
        asked = [(item.answer, s) for item, s in zip(items, said, strict=True) if item.category in ("present", split)]
        truth, yes = np.array([a == "yes" for a, _ in asked]), np.array([s == "yes" for _, s in asked])
        precision, recall = (truth & yes).sum() / yes.sum(), (truth & yes).sum() / truth.sum()
        f1s.append(2 * precision * recall / (precision + recall))
        figures = score.detail[split]
        assert figures["accuracy"] == pytest.approx(100 * np.mean([a == s for a, s in asked]))
        assert figures["precision"] == pytest.approx(100 * precision)
        assert figures["recall"] == pytest.approx(100 * recall)
        assert figures["f1"] == pytest.approx(100 * f1s[-1])
        assert figures["yes"] == pytest.approx(100 * yes.mean())
    assert score.score == pytest.approx(100 * np.mean(f1s))


def test_always_yes_gets_popes_chance_level():
    items = built("pope")[0].items
    score = score_answers("pope", items, ["yes"] * len(items))
    assert score.score == score.chance == pytest.approx(200 / 3)
    assert score.detail["overall"]["accuracy"] == 50.0
    no = score_answers("pope", items, ["no"] * len(items))
    assert (no.score, no.detail["overall"]["accuracy"]) == (0.0, 50.0)
    assert Pope(items).chance() == score.chance


def test_mmes_score_is_accuracy_and_accuracy_plus_summed_over_subtasks():
    items = built("mme")[0].items
    said = answers(items, right=0.6, seed=3)
    score = score_answers("mme", items, said)
    total = 0.0
    for subtask in dict.fromkeys(item.category for item in items):
        right = {}
        for item, s in zip(items, said, strict=True):
            if item.category == subtask:
                right.setdefault(item.picture, []).append(s == item.answer)
        accuracy = 100 * np.mean([hit for hits in right.values() for hit in hits])
        plus = 100 * np.mean([all(hits) for hits in right.values()])
        assert score.detail[subtask] == pytest.approx(
            {"accuracy": accuracy, "accuracy+": plus, "score": accuracy + plus}
        )
        total += accuracy + plus
    assert score.score == pytest.approx(total)


def test_a_coin_gets_mmes_chance_level_and_a_constant_less():
    items = built("mme")[0].items
    chance = random.Random(7)
    coins = [score_answers("mme", items, [chance.choice(["yes", "no"]) for _ in items]).score for _ in range(60)]
    assert abs(np.mean(coins) - Mme(items).chance()) < 4 * np.std(coins) / 60**0.5
    assert score_answers("mme", items, ["yes"] * len(items)).score == 250.0
