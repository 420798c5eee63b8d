import dataclasses
import random
from collections import Counter

import numpy as np

from fedcmp.evaluation.suites.mmvp import PAIRS, PATTERNS, Mmvp
from fedcmp.evaluation.suites.scoring import score_answers
from tests.evaluation.suites.shared import built


def test_a_pair_is_one_prompt_about_two_pictures_with_two_answers():
    suite, images = built("mmvp-world")
    assert Counter(item.category for item in suite.items) == dict.fromkeys(PATTERNS, 2 * PAIRS)
    for first, second in zip(suite.items[::2], suite.items[1::2], strict=True):
        assert (first.unit, first.prompt, first.options) == (second.unit, second.prompt, second.options)
        assert {first.answer, second.answer} == set(first.options)
        assert len(first.options) == 2
        assert not np.array_equal(images[first.picture], images[second.picture])


def test_a_pairs_pictures_differ_in_one_thing():
    suite, images = built("mmvp-world")
    for first, second in zip(suite.pictures[::2], suite.pictures[1::2], strict=True):
        assert first.style == second.style
        assert (first.draws == second.draws).all()
        names = [field.name for field in dataclasses.fields(first.content)]
        changed = {name for name in names if getattr(first.content, name) != getattr(second.content, name)}
        assert changed in [{name} for name in names] + [{"heights", "tallest"}]
    cells = images.reshape(len(images), 3, 16, 3, 16, 3).transpose(0, 1, 3, 2, 4, 5).reshape(len(images), 9, -1)
    touched = (cells[::2] != cells[1::2]).any(-1).sum(1)
    small = [item.category for item in suite.items[::2]]
    for pattern, limit in (("quantity and count", 1), ("position", 2), ("orientation and direction", 1)):
        own = [
            t
            for t, category, picture in zip(touched, small, suite.pictures[::2], strict=True)
            if category == pattern and picture.kind != "painting"
        ]  # a painting's blur crosses the cells' borders
        assert max(own) <= limit


def test_guesses_get_the_chance_level():
    items = built("mmvp-world")[0].items
    chance = random.Random(5)
    scores = [
        score_answers("mmvp-world", items, [chance.choice(item.options) for item in items]).score for _ in range(60)
    ]
    assert Mmvp(items).chance() == 25.0
    assert abs(np.mean(scores) - 25.0) < 4 * np.std(scores) / 60**0.5


def test_one_answer_to_both_pictures_gets_nothing_in_mmvp():
    items = built("mmvp-world")[0].items
    score = score_answers("mmvp-world", items, [item.options[0] for item in items])
    assert score.score == 0.0
    assert score.detail["single_pictures"] == 50.0
    assert set(score.detail["by_pattern"].values()) == {0.0}
