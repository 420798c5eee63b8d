"""FedYogi against Flower's with the paper's first second moment, and how it differs from FedAdam."""

import numpy as np
from flwr.serverapp import strategy as flower

from fedcmp.aggregation import FedAdam, FedYogi

from .oracle import as_tensors, as_updates, relative_error
from .oracle_baselines import one_round
from .peers import flower_round


def test_equals_flower_over_rounds():
    """Flower starts v from 0, the paper (and we) from tau^2; Flower's Yogi has no bias correction."""
    start, _, _ = one_round(0, 1)
    ours, theirs = FedYogi(learning_rate=0.05, tau=0.02), flower.FedYogi(eta=0.05, tau=0.02)
    theirs.v_t = {name: np.full_like(array, 0.02**2) for name, array in start.items()}
    for number in range(1, 5):
        _, states, counts = one_round(number, 3)
        expected = flower_round(theirs, number, start, states, counts)
        found = ours.aggregate(as_tensors(start), as_updates(states, counts))
        assert relative_error(found, expected) < 1e-12
        start = expected


def test_forgets_a_burst_more_slowly_than_adam():
    start, burst, calm = ({"w": np.full(1, value)} for value in (0.0, 1.0, 0.01))
    left = {}
    for rule in (FedAdam(beta_2=0.5), FedYogi(beta_2=0.5)):
        for moved in (burst, calm, calm, calm):
            rule.aggregate(as_tensors(start), as_updates([moved]))
        left[type(rule)] = float(rule.state_dict()["second_moment.w"])
    assert left[FedYogi] > 0.49  # down by (1 - b2) D^2 a round, however large it is
    assert left[FedAdam] < 0.07  # halved in each round
