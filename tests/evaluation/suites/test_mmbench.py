import random
from collections import defaultdict

import numpy as np

from fedcmp.evaluation.suites.mmbench import MMBench
from fedcmp.evaluation.suites.scoring import score_answers
from tests.evaluation.suites.examples import word
from tests.evaluation.suites.shared import built


def test_each_question_is_asked_once_for_every_rotation_of_its_options():
    suite, _ = built("mmbench-world")
    asked = defaultdict(list)
    for item in suite.items:
        asked[item.unit].append(item)
        assert f"{' or '.join(item.options)} ? answer :" in item.prompt
    for items in asked.values():
        orders = [item.options for item in items]
        assert orders == [orders[0][i:] + orders[0][:i] for i in range(len(orders[0]))]
        assert len({item.answer for item in items}) == len({item.picture for item in items}) == 1


def test_a_question_counts_only_if_right_in_every_rotation():
    orders = ["red", "blue"], ["blue", "red"]
    items = [word(i, "a" if i < 2 else "b", "red", order) for i in range(4) for order in orders]
    said = ["red", "red", "red", "blue", "blue", "red", "red", "red"]
    score = score_answers("mmbench-world", items, said)
    assert score.score == 50.0
    assert score.detail["by_ability"] == {"a": 50.0, "b": 50.0}
    assert score.detail["one_order"] == 75.0
    assert score.detail["first_option_chosen"] == 50.0  # items 0, 2, 3 and 6


def test_mmbench_answers_by_position_get_nothing_and_by_preference_chance():
    items = built("mmbench-world")[0].items
    assert score_answers("mmbench-world", items, [item.options[0] for item in items]).score == 0.0
    chance = random.Random(2)
    scores = []
    for _ in range(40):
        preferred = {}
        said = []
        for item in items:
            said.append(max(item.options, key=lambda word: preferred.setdefault(word, chance.random())))
        scores.append(score_answers("mmbench-world", items, said).score)
    assert abs(np.mean(scores) - MMBench(items).chance()) < 4 * max(np.std(scores) / 40**0.5, 2.3 / 40**0.5)
