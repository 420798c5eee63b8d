"""FedAdam against Flower's with its two departures undone, and the errors that peers have made in it."""

import math

import numpy as np
import pytest
from flwr.serverapp import strategy as flower

from fedcmp.aggregation import FedAdam

from .oracle import as_tensors, as_updates, relative_error
from .oracle_baselines import one_round
from .peers import flower_round


def test_equals_flower_without_its_bias_correction_and_with_the_papers_first_second_moment():
    """Flower multiplies eta by sqrt(1 - b2^(t+1)) / (1 - b1^(t+1)) in round t, and starts v from 0 instead of tau^2."""
    start, _, _ = one_round(0, 1)
    ours = FedAdam(learning_rate=0.05, beta_1=0.8, beta_2=0.95, tau=0.02)
    theirs = flower.FedAdam(beta_1=0.8, beta_2=0.95, tau=0.02)
    theirs.v_t = {name: np.full_like(array, 0.02**2) for name, array in start.items()}
    for number in range(1, 5):
        _, states, counts = one_round(number, 3)
        theirs.eta = 0.05 * (1 - 0.8 ** (number + 1)) / math.sqrt(1 - 0.95 ** (number + 1))
        expected = flower_round(theirs, number, start, states, counts)
        found = ours.aggregate(as_tensors(start), as_updates(states, counts))
        assert relative_error(found, expected) < 1e-12
        start = expected


def test_first_step_has_no_bias_correction():
    start, moved = {"w": np.zeros(4)}, {"w": np.array([1.0, -0.2, 1e-3, 0.0])}
    step = FedAdam().aggregate(as_tensors(start), as_updates([moved]))["w"].numpy()
    second = 0.99 * 1e-6 + 0.01 * moved["w"] ** 2
    assert step == pytest.approx(0.01 * 0.1 * moved["w"] / (np.sqrt(second) + 1e-3), rel=1e-12)


def test_second_moment_is_that_of_the_update_and_not_of_the_momentum():
    """D = 1 and then D = -1: the momentum nearly cancels, its square with it; the update's square does not."""
    aggregator, start = FedAdam(beta_1=0.5), as_tensors({"w": np.zeros(1)})
    for sign in (1.0, -1.0):
        aggregator.aggregate(start, as_updates([{"w": np.array([sign])}]))
    memory = aggregator.state_dict()
    assert float(memory["first_moment.w"]) == pytest.approx(-0.25)
    assert float(memory["second_moment.w"]) == pytest.approx(0.99**2 * 1e-6 + 0.99 * 0.01 + 0.01)


def test_bad_options_are_named():
    for options in ({"beta_1": 2}, {"beta_2": -1}, {"tau": 0}, {"learning_rate": True}):
        with pytest.raises(ValueError, match=f"^{next(iter(options))} = "):
            FedAdam(**options)
