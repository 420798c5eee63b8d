"""Which round of a run is the best."""

import math

import pytest

from fedcmp.runs.best import Best
from fedcmp.runs.records import Evaluation


def evaluations(*losses):
    return [Evaluation.from_line({"caption_loss": loss}) for loss in losses]


def after(*rounds):
    """The best of rounds 1, 2, ..., each with the losses of its models."""
    best = None
    for number, losses in enumerate(rounds, start=1):
        best = Best.after(best, number, evaluations(*losses))
    return best


def test_the_lowest_loss_is_the_best_and_the_first_of_equals():
    assert after([0.5], [0.3], [0.4]) == Best(2, 0.3, before=1)
    assert after([0.5], [0.5]) == Best(1, 0.5)
    assert after([0.5], [0.4], [0.3]) == Best(3, 0.3, before=2)


def test_many_models_count_by_their_mean():
    assert after([0.1, 0.9], [0.4, 0.5], [0.2, 0.8]) == Best(2, pytest.approx(0.45), before=1)


@pytest.mark.parametrize("losses", [[math.nan], [math.inf], [None], [0.1, math.nan], [0.1, None], []])
def test_a_round_whose_loss_is_not_finite_does_not_count(losses):
    assert after(losses) is None
    assert after([0.5], losses) == Best(1, 0.5)


def test_a_state_gives_it_back_and_one_of_an_older_version_nothing():
    for best in (Best(2, 0.3, before=1), Best(1, 0.1 + 0.2)):
        assert Best.read({"method": "fedavg"} | best.state()) == best
    strays = [{}, {"best": None}, {"best": []}, {"best": {"round": 1.5, "loss": 0.1}}, {"best": {"round": 1}}]
    assert [Best.read(state) for state in strays] == [None] * 5
