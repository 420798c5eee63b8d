import random
from collections import Counter

import numpy as np

from fedcmp.evaluation.suites.scoring import score_answers
from fedcmp.evaluation.suites.seed import OPTIONS, QUESTIONS, Seed, side
from fedcmp.world.families_objects import Item
from tests.evaluation.suites.examples import word
from tests.evaluation.suites.shared import built


def test_each_dimension_has_as_many_questions_with_four_options():
    suite, _ = built("seed-world")
    counts = Counter(item.category for item in suite.items)
    assert set(counts.values()) == {QUESTIONS}
    assert len(counts) == 9
    assert all(len(set(item.options)) == OPTIONS and item.how == "rank" for item in suite.items)


def test_answers_are_equally_frequent_where_there_are_few():
    suite, _ = built("seed-world")
    for dimension in ("scene understanding", "instance attribute", "instance counting", "emotion", "visual reasoning"):
        counts = Counter(item.answer for item in suite.items if item.category == dimension)
        assert max(counts.values()) - min(counts.values()) <= 1


def test_a_side_is_told_by_column_first():
    def at(cell):
        return Item(0, 0, 0, cell)

    assert side(at(0), at(8)) == "left of"
    assert side(at(5), at(3)) == "right of"
    assert side(at(1), at(7)) == "above"
    assert side(at(7), at(1)) == "below"


def test_guesses_get_the_chance_level():
    items = built("seed-world")[0].items
    chance = random.Random(5)
    scores = [
        score_answers("seed-world", items, [chance.choice(item.options) for item in items]).score for _ in range(60)
    ]
    assert Seed(items).chance() == 25.0
    assert abs(np.mean(scores) - 25.0) < 4 * np.std(scores) / 60**0.5


def test_seed_reports_each_dimension():
    items = [word(0, "a", "x"), word(1, "a", "x"), word(2, "b", "x")]
    assert score_answers("seed-world", items, ["x", "y", "x"]).detail == {"by_dimension": {"a": 50.0, "b": 100.0}}
