import random

import numpy as np
import pytest

from fedcmp.evaluation.suites.rules import jackknife
from fedcmp.evaluation.suites.scoring import score_answers
from fedcmp.evaluation.suites.seed import Seed
from fedcmp.evaluation.suites.table import SUITES, TABLE
from tests.evaluation.suites.examples import word
from tests.evaluation.suites.shared import built


def test_the_noise_of_a_share_is_binomial():
    items = [word(i, "a", "yes") for i in range(50)]
    rule = Seed(items)
    said = ["yes"] * 34 + ["no"] * 16
    assert float(rule.score(rule.marks(said).sum(0))) == 68.0
    assert jackknife(rule, rule.marks(said)) == pytest.approx(100 * (0.68 * 0.32 / 49) ** 0.5)


@pytest.mark.parametrize("name", ["pope-world", "mme-world", "mmvp-world", "seed-world"])
def test_the_noise_is_that_of_leaving_out_one_unit_after_the_other(name):
    items = built(name)[0].items
    chance = random.Random(1)
    said = [item.answer if chance.random() < 0.7 else "no" for item in items]
    units = list(dict.fromkeys(item.unit for item in items))
    scores = []
    for left_out in units[::7]:  # a seventh is enough to compare
        kept = [i for i, item in enumerate(items) if item.unit != left_out]
        rule = TABLE[name].rule([items[i] for i in kept])
        scores.append(float(rule.score(rule.marks([said[i] for i in kept]).sum(0))))
    rule = TABLE[name].rule(items)
    marks = rule.marks(said)
    without = rule.score(marks.sum(0) - marks)
    np.testing.assert_allclose(without[::7], scores, rtol=1e-9)
    count = len(units)
    assert jackknife(rule, marks) == pytest.approx(np.sqrt((count - 1) * np.var(without)))


@pytest.mark.parametrize("name", SUITES)
def test_right_answers_get_the_highest_score(name):
    items = built(name)[0].items
    if any(item.how == "text" for item in items):
        items = [item for item in items if item.how != "text"]
    score = score_answers(name, items, [item.answer for item in items])
    assert score.score == score.highest == (1000.0 if name == "mme-world" else 100.0)
    assert score.noise == pytest.approx(0, abs=1e-9)
    nothing = score_answers(name, items, [""] * len(items))
    assert nothing.score == 0.0
