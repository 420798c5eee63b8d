import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcmp.evaluation.suites.judge import description_mark, mark
from tests.evaluation.suites.examples import described, word

STAR = ("object star", "color star red", "size star large", "row star top", "column star left")


def test_a_word_is_right_or_wrong():
    item = word(0, "a", "yes")
    assert [mark(item, said) for said in ("yes", "no", "", "yes yes")] == [1.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("a large red star at the top left .", 1.0),
        ("a large blue star at the top left .", 0.8),  # 4 of 5 stated, 4 of 5 needed
        ("a red star .", 2 * 2 / (2 + 5)),
        ("a large red star at the top left and a small ring .", 2 * 5 / (7 + 5)),  # two facts that are not so
        ("", 0.0),
    ],
)
def test_a_description_is_marked_by_precision_and_recall(said, expected):
    assert mark(described(0, STAR), said) == pytest.approx(expected)


def test_what_is_true_but_not_in_the_reference_costs_nothing():
    item = described(0, STAR, truth=("style photo",))
    assert mark(item, "a photo of a large red star at the top left .") == 1.0
    assert mark(item, "a sketch of a large red star at the top left .") == pytest.approx(10 / 11)


def test_the_best_reference_counts():
    places = ("object star", "object ring", "row star top", "row ring top")
    relation = ("object star", "object ring", "left star ring")
    item = described(0, places, relation)
    assert mark(item, "a star left of a ring") == 1.0
    assert mark(item, "a ring right of a star") == 1.0
    assert mark(item, "a star right of a ring") == pytest.approx(2 * 2 / (3 + 3))


def test_what_the_prompt_says_already_is_not_marked():
    item = described(0, STAR, prompt="this photo shows", truth=("style photo",))
    assert mark(item, "a large red star at the top left .") == 1.0
    assert mark(item, "") == 0.0


@given(st.sets(st.sampled_from("abcdefgh")), st.sets(st.sampled_from("abcdefgh"), min_size=1))
def test_the_mark_is_the_harmonic_mean_of_precision_and_recall(stated, needed):
    got = description_mark(frozenset(stated), described(0, sorted(needed)))
    both = len(stated & needed)
    precision, recall = both / max(len(stated), 1), both / len(needed)
    assert got == pytest.approx(2 * precision * recall / max(precision + recall, 1e-12))
