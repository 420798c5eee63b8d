import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcmp.world.content import CELLS, Question, another, distinct_cells, ordered_pair, yes_or_no
from fedcmp.world.scene import make_scenes
from fedcmp.world.words import QUESTION_KINDS

DRAWS = st.integers(0, 2**31 - 1)


@given(DRAWS, st.integers(0, CELLS))
def test_distinct_cells_are_distinct_cells_of_the_grid(draw, count):
    cells = distinct_cells(draw, count)
    assert len(cells) == count == len(set(cells))
    assert set(cells) <= set(range(CELLS))


@pytest.mark.parametrize("position", range(3))
def test_every_cell_comes_up_in_every_position(position):
    assert {distinct_cells(draw, 3)[position] for draw in range(CELLS**3)} == set(range(CELLS))


@given(st.data(), DRAWS, st.integers(2, 10))
def test_another_is_an_option_but_never_the_current_one(data, draw, options):
    current = data.draw(st.integers(0, options - 1))
    chosen = another(current, draw, options)
    assert 0 <= chosen < options
    assert chosen != current


@pytest.mark.parametrize("current", range(4))
def test_another_reaches_all_the_others_equally_often(current):
    chosen = [another(current, draw, 4) for draw in range(30)]
    assert sorted(set(chosen)) == [option for option in range(4) if option != current]
    assert all(chosen.count(option) == 10 for option in set(chosen))


def test_an_ordered_pair_comes_in_both_orders():
    assert {ordered_pair("red", "blue", draw) for draw in range(2)} == {("red", "blue"), ("blue", "red")}


def test_choices_cannot_be_answered_by_position():
    choices = [q for qs in make_scenes(3, 0, 2000, images=False).questions for q in qs if q.kind == "choice"]
    first = [question.text.split(" or ")[0].split()[-1] == question.answer for question in choices]
    second = [question.text.split(" or ")[1].split()[0] == question.answer for question in choices]
    assert all(a != b for a, b in zip(first, second, strict=True))
    assert 0.42 < sum(first) / len(first) < 0.58


def test_questions_are_of_a_known_kind_and_answered_in_one_word():
    for questions in make_scenes(3, 0, 300, images=False).questions:
        for question in questions:
            assert isinstance(question, Question)
            assert question.kind in QUESTION_KINDS
            assert question.text.endswith(" ?")
            assert len(question.answer.split()) == 1


def test_yes_or_no():
    assert (yes_or_no(True), yes_or_no(False)) == ("yes", "no")
