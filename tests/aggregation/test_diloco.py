"""DiLoCo against torch's own Nesterov step, which the paper uses."""

import pytest
import torch

from fedcmp.aggregation import DiLoCo, FedAvgM

from .oracle import as_tensors, as_updates
from .oracle_baselines import one_round, weighted


@pytest.mark.parametrize(("momentum", "learning_rate"), [(0.9, 0.7), (0.5, 1.0)])
def test_equals_torch_sgd_on_the_negative_mean_update(momentum, learning_rate):
    start, _, _ = one_round(0, 1)
    projector = {name: torch.nn.Parameter(tensor) for name, tensor in as_tensors(start).items()}
    optimizer = torch.optim.SGD(projector.values(), lr=learning_rate, momentum=momentum, nesterov=True)
    aggregator = DiLoCo(momentum=momentum, learning_rate=learning_rate)
    for number in range(1, 5):
        _, states, counts = one_round(number, 3)
        mean = weighted(states, counts)
        before = {name: parameter.detach().clone() for name, parameter in projector.items()}
        for name, parameter in projector.items():
            parameter.grad = parameter.detach() - torch.from_numpy(mean[name])
        optimizer.step()
        found = aggregator.aggregate(before, as_updates(states, counts))
        for name, parameter in projector.items():
            assert torch.allclose(found[name], parameter, rtol=1e-12, atol=1e-12)


def test_looks_ahead_where_fedavgm_does_not():
    start, states, _ = one_round(0, 1)
    first = DiLoCo(momentum=0.5, learning_rate=1.0).aggregate(as_tensors(start), as_updates(states))
    plain = FedAvgM(momentum=0.5).aggregate(as_tensors(start), as_updates(states))
    for name in start:  # D + beta D against D, already in the first round
        moved = first[name].numpy() - start[name]
        assert moved == pytest.approx(1.5 * (plain[name].numpy() - start[name]))


def test_bad_options_are_named():
    with pytest.raises(ValueError, match=r"momentum = -0\.1"):
        DiLoCo(momentum=-0.1)
    with pytest.raises(ValueError, match=r"learning_rate = 'fast'"):
        DiLoCo(learning_rate="fast")
