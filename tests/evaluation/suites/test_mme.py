import random
from collections import defaultdict

import numpy as np
import pytest

from fedcmp.evaluation.suites.mme import PICTURES, SUBTASKS, Mme
from fedcmp.evaluation.suites.scoring import score_answers
from tests.evaluation.suites.examples import answers
from tests.evaluation.suites.shared import built


def test_each_picture_has_one_question_to_be_answered_yes_and_one_no():
    suite, _ = built("mme-world")
    asked = defaultdict(list)
    for item in suite.items:
        assert item.unit == item.picture
        asked[item.category, item.picture].append(item.answer)
    assert all(answers == ["yes", "no"] for answers in asked.values())
    assert len(asked) == PICTURES * len(SUBTASKS) == len(suite.pictures)


def test_mmes_score_is_accuracy_and_accuracy_plus_summed_over_subtasks():
    items = built("mme-world")[0].items
    said = answers(items, right=0.6, seed=3)
    score = score_answers("mme-world", items, said)
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
    items = built("mme-world")[0].items
    chance = random.Random(7)
    coins = [score_answers("mme-world", items, [chance.choice(["yes", "no"]) for _ in items]).score for _ in range(60)]
    assert abs(np.mean(coins) - Mme(items).chance()) < 4 * np.std(coins) / 60**0.5
    assert score_answers("mme-world", items, ["yes"] * len(items)).score == 250.0
