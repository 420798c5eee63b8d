"""Rules by sums of matrices, and those that keep the updates, share what they do with everything else."""

import pytest
import torch

from fedcmp.aggregation import FedAvg, create
from fedcmp.aggregation.kept_updates import KeptUpdates
from fedcmp.aggregation.matrix_rule import MatrixRule

from .test_halves import draw_state, draw_updates

BY_SUMS, KEEPING = ["regmean", "iso-c", "wudi"], ["knots-ties", "tsv", "svc"]
OTHERS = ("prompt.token", "adapter.lora_A", "scale")  # no X.weight among them


@pytest.mark.parametrize("name", BY_SUMS + KEEPING)
def test_what_is_no_matrix_gets_fedavgs_mean(name):
    start = draw_state(0)
    updates = draw_updates(0, 4, start)
    expected = FedAvg().aggregate(start, updates)
    found = create(name).aggregate(start, updates)
    for other in OTHERS:
        torch.testing.assert_close(found[other], expected[other], rtol=1e-12, atol=1e-12)
    assert not torch.allclose(found["linear_1.weight"], expected["linear_1.weight"], rtol=1e-3)


@pytest.mark.parametrize("name", BY_SUMS + KEEPING)
def test_a_bias_is_one_more_input_column(name):
    """A layer with its bias as a column of the weight, and no bias of its own, moves the same."""
    start = draw_state(1)
    updates = draw_updates(1, 3, start)
    apart = create(name).aggregate(start, updates)

    def joined(state):
        state = dict(state)
        for layer in ("linear_1", "linear_2"):
            bias = state.pop(f"{layer}.bias")
            state[f"{layer}.weight"] = torch.cat([state[f"{layer}.weight"], bias[:, None]], dim=1)
        return state

    whole = [type(u)(joined(u.state), u.num_examples, extra=u.extra) for u in updates]
    found = create(name).aggregate(joined(start), whole)
    for layer in ("linear_1", "linear_2"):
        torch.testing.assert_close(found[f"{layer}.weight"], joined(apart)[f"{layer}.weight"], rtol=1e-9, atol=1e-9)


def test_the_two_kinds_say_whether_they_add_up():
    assert all(isinstance(create(name), MatrixRule) for name in BY_SUMS)
    assert all(isinstance(create(name), KeptUpdates) for name in KEEPING)
    assert {create(name).adds_up for name in BY_SUMS} == {"in one exchange"}
    assert {name: create(name).adds_up for name in KEEPING} == {
        "knots-ties": "in two exchanges",
        "tsv": "no",
        "svc": "in two exchanges",
    }
