"""FedAvg against the plain weighted mean."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcmp.aggregation import ClientUpdate, FedAvg

from .oracle import as_tensors, as_updates, one_round, relative_error


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.integers(1, 5))
def test_is_the_sample_weighted_mean(seed, clients):
    start, states, counts, *_ = one_round(seed, clients)
    aggregator = FedAvg()
    merged = aggregator.aggregate(as_tensors(start), as_updates(states, counts))
    expected = {n: np.average([state[n] for state in states], axis=0, weights=counts) for n in start}
    assert relative_error(merged, expected) < 1e-12
    assert aggregator.last_weights == [count / sum(counts) for count in counts]


def test_one_client_and_equal_clients_come_back_exactly():
    start, states, *_ = one_round(clients=1)
    for dtype in (torch.float32, torch.bfloat16):
        own = as_tensors(states[0], dtype)
        for clients in (1, 3):
            merged = FedAvg().aggregate(as_tensors(start, dtype), [ClientUpdate(own, 7)] * clients)
            assert all(torch.equal(merged[name], own[name]) for name in own)


def test_remembers_the_round_only():
    start, states, *_ = one_round()
    aggregator, resumed = FedAvg(), FedAvg()
    aggregator.aggregate(as_tensors(start), as_updates(states))
    resumed.load_state_dict(aggregator.state_dict())
    assert aggregator.state_dict().keys() == {"round"}
    assert resumed.round == 1
