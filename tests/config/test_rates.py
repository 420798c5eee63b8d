"""Default learning rates: the anchor, the law between, and that a recipe's own rate is taken as it is."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcmp.config import parse_recipe
from fedcmp.config.methods import choose
from fedcmp.config.rates import default_rate
from fedcmp.preparation.batches import learning_rate

WORLD = {"data": {"num_pairs": 100}}


def recipe(**sections):
    return parse_recipe(WORLD | sections, "test")


def test_llava_own_pretraining_gets_llava_own_rate():
    assert default_rate(2180) == 1e-3
    assert default_rate(50_000) == 1e-3


def test_fewer_steps_get_longer_ones_by_the_square_root_and_at_most_eight_times_the_anchor():
    assert default_rate(545) == 2e-3
    assert default_rate(1) == 8e-3


@given(st.floats(1, 1e6), st.floats(1, 1e6))
def test_it_never_rises_with_the_steps(one, other):
    assert default_rate(max(one, other)) <= default_rate(min(one, other))


def test_a_rule_states_its_factor():
    plain, paper = default_rate(300), default_rate(300, chosen=choose("fedcmp"))
    assert math.isclose(paper, plain / 4, rel_tol=0.03)


@pytest.mark.parametrize(
    ("method", "steps"),
    [
        ("fedavg", 800 / 4 / 16),
        ("local", 800 / 4 / 16),
        ("centralized-large-batch", 800 / 4 / 16),
        ("centralized", 800 / 16),
    ],
)
def test_steps_are_those_of_one_learner(method, steps):
    assert learning_rate(method, recipe(), [500, 100, 100, 100]) == default_rate(steps)


def test_clients_that_are_absent_half_of_the_time_take_half_of_the_steps():
    half = recipe(federation={"participation": 0.5})
    assert learning_rate("fedavg", half, [1600] * 4) == default_rate(50)
    assert learning_rate("local", half, [1600] * 4) == default_rate(100)


def test_a_rate_that_is_named_is_taken_as_it_is():
    named = recipe(
        training={"learning_rate": 0.02, "rate_factor": 3.0},
        method={"fedcmp": {"learning_rate": 0.5}},
    )
    assert learning_rate("fedavg", named, [100]) == 0.02
    assert learning_rate("fedcmp", named, [100]) == 0.5


def test_a_factor_scales_what_is_worked_out():
    assert learning_rate("fedavg", recipe(training={"rate_factor": 0.5}), [8720 * 4]) == 5e-4
