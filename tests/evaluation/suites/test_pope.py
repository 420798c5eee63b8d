from collections import Counter, defaultdict

import numpy as np
import pytest

from fedcmp.evaluation.suites.pope import POPULAR, PRESENT, SPLITS, Pope, existence, objects_in
from fedcmp.evaluation.suites.scoring import score_answers
from tests.evaluation.suites.examples import answers
from tests.evaluation.suites.shared import built


@pytest.fixture(scope="module")
def suite():
    return built("pope-world")[0]


def named(item):
    words = item.prompt.removeprefix("question : ").removesuffix(" ? answer :").split()
    return " ".join(words[2:] if words[1] == "there" and words[0] == "are" else words[3:])


def test_each_picture_is_asked_about_one_present_object_and_one_absent_object_a_split(suite):
    asked = defaultdict(list)
    for item in suite.items:
        asked[item.picture].append(item.category)
        assert item.answer == ("yes" if item.category == PRESENT else "no")
    assert len(asked) == len(suite.pictures)
    assert all(categories == [PRESENT, *SPLITS] for categories in asked.values())


def test_popular_objects_are_the_most_frequent_ones(suite):
    frequency = Counter(name for picture in suite.pictures for name in objects_in(picture.content))
    least = sorted(frequency.values(), reverse=True)[POPULAR - 1]
    assert all(frequency[named(item)] >= least for item in suite.items if item.category == "popular")


def test_adversarial_objects_share_a_word_or_a_family_with_what_is_there(suite):
    shared = 0
    for item in suite.items:
        if item.category == "adversarial":
            words = set(named(item).split())
            there = objects_in(suite.pictures[item.picture].content)
            shared += any(words & set(name.split()) for name in there)
            family = suite.pictures[item.picture].content.family
            assert family in ("texture", "count") or any(words & set(name.split()) for name in there)
    assert shared > 100


def test_existence_is_asked_in_the_worlds_words():
    assert existence("orange bar") == "is there an orange bar ?"
    assert existence("crosses") == "are there crosses ?"
    assert existence("diagonal stripes") == "are there diagonal stripes ?"


def test_popes_figures_follow_from_counting():
    items = built("pope-world")[0].items
    said = answers(items, right=0.5)
    score = score_answers("pope-world", items, said)
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
    items = built("pope-world")[0].items
    score = score_answers("pope-world", items, ["yes"] * len(items))
    assert score.score == score.chance == pytest.approx(200 / 3)
    assert score.detail["overall"]["accuracy"] == 50.0
    no = score_answers("pope-world", items, ["no"] * len(items))
    assert (no.score, no.detail["overall"]["accuracy"]) == (0.0, 50.0)
    assert Pope(items).chance() == score.chance
