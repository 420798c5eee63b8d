from collections import Counter

import pytest

from fedcmp.evaluation.suites.facts import facts_in
from fedcmp.evaluation.suites.mm_vet import DESCRIBED, ONE_WORD, QUESTIONS
from fedcmp.evaluation.suites.scoring import score_answers
from tests.evaluation.suites.examples import described, word
from tests.evaluation.suites.shared import built


def test_each_combination_of_abilities_has_as_many_items():
    suite, _ = built("mm-vet-world")
    assert Counter(item.category for item in suite.items) == dict.fromkeys([*ONE_WORD, *DESCRIBED], QUESTIONS)


def test_a_description_goes_on_from_the_true_style_and_is_not_marked_for_it():
    suite, _ = built("mm-vet-world")
    described = [item for item in suite.items if item.how == "text"]
    assert len(described) == QUESTIONS * len(DESCRIBED)
    for item in described:
        picture = suite.pictures[item.picture]
        assert item.prompt == f"this {picture.kind} shows"
        assert facts_in(item.prompt) <= set(item.truth)
        assert not any(fact.startswith("style") for reference in item.references for fact in reference)


def test_a_one_word_answer_is_among_the_words_to_guess_from():
    suite, _ = built("mm-vet-world")
    assert all(item.answer in item.options for item in suite.items if item.how == "word")


def test_an_ability_is_the_mean_over_all_items_that_need_it():
    items = [
        word(0, "ocr", "fox"),
        word(1, "ocr+spatial", "7"),
        described(2, ["object star", "color star red"], category="recognition+spatial"),
    ]
    score = score_answers("mm-vet-world", items, ["fox", "3", "a star"])
    third = 2 * 1 / (1 + 2)
    assert score.score == pytest.approx(100 * (1 + 0 + third) / 3)
    assert score.detail["by_ability"] == pytest.approx({"ocr": 50.0, "spatial": 50 * third, "recognition": 100 * third})
    assert score.detail["by_combination"] == pytest.approx(
        {"ocr": 100.0, "ocr+spatial": 0.0, "recognition+spatial": 100 * third}
    )
