"""FedSWA's server half."""

import pytest

from fedcmp.aggregation import FedSWA

from .oracle import as_tensors, as_updates
from .oracle_baselines import one_round, weighted


def test_goes_half_as_far_again_as_the_mean():
    start, states, counts = one_round(0, 4)
    merged = FedSWA().aggregate(as_tensors(start), as_updates(states, counts))
    mean = weighted(states, counts)
    for name in start:
        assert merged[name].numpy() == pytest.approx(start[name] + 1.5 * (mean[name] - start[name]), rel=1e-12)


def test_bad_option_is_named():
    with pytest.raises(ValueError, match="alpha = 0: must be a number above 0"):
        FedSWA(alpha=0)
