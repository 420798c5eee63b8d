"""FedAvgM against Flower's, and FedAvg against Flower's on the way."""

import pytest
from flwr.serverapp import strategy as flower

from fedcmp.aggregation import FedAvg, FedAvgM

from .oracle import as_tensors, as_updates, relative_error
from .oracle_baselines import one_round
from .peers import flower_round


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (FedAvg(), flower.FedAvg()),
        (FedAvgM(), flower.FedAvgM(server_momentum=0.9, server_learning_rate=1.0)),
        (FedAvgM(momentum=0.4, learning_rate=0.3), flower.FedAvgM(server_momentum=0.4, server_learning_rate=0.3)),
    ],
    ids=["fedavg", "defaults", "other options"],
)
def test_equals_flower_over_rounds(ours, theirs):
    start, _, _ = one_round(0, 1)
    for number in range(1, 4):
        _, states, counts = one_round(number, 3)
        expected = flower_round(theirs, number, start, states, counts)
        found = ours.aggregate(as_tensors(start), as_updates(states, counts))
        assert relative_error(found, expected) < 1e-12
        start = expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"momentum": 1.1}, "momentum = 1.1: must be a number at least 0 and at most 1"),
        ({"momentum": None}, "momentum = None"),
        ({"learning_rate": 0}, "learning_rate = 0: must be a number above 0"),
        ({"learning_rate": float("inf")}, "learning_rate = inf"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        FedAvgM(**options)
