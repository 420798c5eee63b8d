from collections import Counter

from fedcmp.world.families_objects import Item
from fedcmp.world.suites.seed import OPTIONS, QUESTIONS, side
from tests.world.suites.shared import built


def test_each_dimension_has_as_many_questions_with_four_options():
    suite, _ = built("seed")
    counts = Counter(item.category for item in suite.items)
    assert set(counts.values()) == {QUESTIONS}
    assert len(counts) == 9
    assert all(len(set(item.options)) == OPTIONS and item.how == "rank" for item in suite.items)


def test_answers_are_equally_frequent_where_there_are_few():
    suite, _ = built("seed")
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
