from collections import Counter

from fedcmp.world.suites.facts import facts_in
from fedcmp.world.suites.mm_vet import DESCRIBED, ONE_WORD, QUESTIONS
from tests.world.suites.shared import built


def test_each_combination_of_abilities_has_as_many_items():
    suite, _ = built("mm-vet")
    assert Counter(item.category for item in suite.items) == dict.fromkeys([*ONE_WORD, *DESCRIBED], QUESTIONS)


def test_a_description_goes_on_from_the_true_style_and_is_not_marked_for_it():
    suite, _ = built("mm-vet")
    described = [item for item in suite.items if item.how == "text"]
    assert len(described) == QUESTIONS * len(DESCRIBED)
    for item in described:
        picture = suite.pictures[item.picture]
        assert item.prompt == f"this {picture.kind} shows"
        assert facts_in(item.prompt) <= set(item.truth)
        assert not any(fact.startswith("style") for reference in item.references for fact in reference)


def test_a_one_word_answer_is_among_the_words_to_guess_from():
    suite, _ = built("mm-vet")
    assert all(item.answer in item.options for item in suite.items if item.how == "word")
