import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fedcmp.config import parse_recipe
from fedcmp.preparation.partition import hold_out, in_turn


def recipe(**evaluation):
    return parse_recipe({"data": {"num_pairs": 100, "held_out": 0.1}, "evaluation": evaluation}, "test")


@given(st.lists(st.integers(2, 60), min_size=1, max_size=5))
def test_held_out_pairs_are_not_trained_on(sizes):
    starts = np.cumsum([0, *sizes])
    holdings = [np.arange(a, b) for a, b in itertools.pairwise(starts)]
    train, judged = hold_out(recipe(), holdings, ["x"] * len(sizes))
    for mine, kept, held in zip(holdings, train, judged, strict=True):
        assert len(held) >= 1
        assert sorted([*kept, *held]) == mine.tolist()


def test_what_is_held_out_does_not_depend_on_how_much_is_scored():
    holdings = [np.arange(0, 300), np.arange(300, 500)]
    few, many = (hold_out(recipe(captions=count), holdings, ["a", "b"])[1] for count in (4, 400))
    assert all(np.array_equal(a, b) for a, b in zip(few, many, strict=True))


def test_any_first_part_of_the_held_out_pairs_is_about_all_clients():
    judged = [np.array([1, 2, 3]), np.array([10]), np.array([20, 21])]
    assert in_turn(judged) == [1, 10, 20, 2, 21, 3]
