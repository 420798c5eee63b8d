from collections import Counter, defaultdict

import pytest

from fedcmp.world.suites.pope import POPULAR, PRESENT, SPLITS, existence, objects_in
from tests.world.suites.shared import built


@pytest.fixture(scope="module")
def suite():
    return built("pope")[0]


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
