import random

import numpy as np
import pytest

from fedcmp.evaluation.suites.choices import MMBench, Mmvp, Seed
from fedcmp.evaluation.suites.scoring import score_answers
from tests.evaluation.suites.examples import word
from tests.world.suites.shared import built


def test_a_question_counts_only_if_right_in_every_rotation():
    orders = ["red", "blue"], ["blue", "red"]
    items = [word(i, "a" if i < 2 else "b", "red", order) for i in range(4) for order in orders]
    said = ["red", "red", "red", "blue", "blue", "red", "red", "red"]
    score = score_answers("mmbench", items, said)
    assert score.score == 50.0
    assert score.detail["by_ability"] == {"a": 50.0, "b": 50.0}
    assert score.detail["one_order"] == 75.0
    assert score.detail["first_option_chosen"] == 50.0  # items 0, 2, 3 and 6


def test_mmbench_answers_by_position_get_nothing_and_by_preference_chance():
    items = built("mmbench")[0].items
    assert score_answers("mmbench", items, [item.options[0] for item in items]).score == 0.0
    chance = random.Random(2)
    scores = []
    for _ in range(40):
        preferred = {}
        said = []
        for item in items:
            said.append(max(item.options, key=lambda word: preferred.setdefault(word, chance.random())))
        scores.append(score_answers("mmbench", items, said).score)
    assert abs(np.mean(scores) - MMBench(items).chance()) < 4 * max(np.std(scores) / 40**0.5, 2.3 / 40**0.5)


@pytest.mark.parametrize(("name", "rule"), [("seed", Seed), ("mmvp", Mmvp)])
def test_guesses_get_the_chance_level(name, rule):
    items = built(name)[0].items
    chance = random.Random(5)
    scores = [score_answers(name, items, [chance.choice(item.options) for item in items]).score for _ in range(60)]
    assert rule(items).chance() == 25.0
    assert abs(np.mean(scores) - 25.0) < 4 * np.std(scores) / 60**0.5


def test_one_answer_to_both_pictures_gets_nothing_in_mmvp():
    items = built("mmvp")[0].items
    score = score_answers("mmvp", items, [item.options[0] for item in items])
    assert score.score == 0.0
    assert score.detail["single_pictures"] == 50.0
    assert set(score.detail["by_pattern"].values()) == {0.0}


def test_seed_reports_each_dimension():
    items = [word(0, "a", "x"), word(1, "a", "x"), word(2, "b", "x")]
    assert score_answers("seed", items, ["x", "y", "x"]).detail == {"by_dimension": {"a": 50.0, "b": 100.0}}
