"""DARE's choice: its share, what it depends on, and what it does not."""

from unittest.mock import patch

import numpy as np
import pytest
import torch

from fedcmp.aggregation import blocks
from fedcmp.aggregation.dropping import Dropper

from .oracle_baselines import keeps

STATE = {"b.weight": torch.arange(301.0), "a.weight": torch.linspace(-1, 1, 40)}


def drawn(state=STATE, name="b.weight", drop=0.5, seed=0, number=0, size=4000):
    thin = Dropper(state, drop=drop, seed=seed, round_number=number).stream(name)
    values = torch.ones(size, dtype=torch.float64)
    for (stretch,) in blocks.blocks(values):
        thin(stretch)
    return values


@pytest.mark.parametrize("drop", [0.0, 0.1, 0.5, 0.9])
def test_drops_the_share_and_keeps_the_expectation(drop):
    values = drawn(drop=drop, size=40_000)
    kept = values[values != 0]
    assert torch.all(kept == 1 / (1 - drop))  # not the sum of magnitudes, as mergekit's rescaling would have it
    assert abs(len(kept) / 40_000 - (1 - drop)) < 4 * np.sqrt(drop * (1 - drop) / 40_000) + 1e-12
    assert float(values.mean()) == pytest.approx(1, abs=0.1)


def test_equals_the_description_in_another_language():
    arrays = {name: tensor.double().numpy() for name, tensor in STATE.items()}
    for name, drop, seed, number in (("a.weight", 0.5, 0, 0), ("b.weight", 0.3, 7, 12)):
        size = STATE[name].numel()
        found = drawn(name=name, drop=drop, seed=seed, number=number, size=size) != 0
        assert np.array_equal(found.numpy(), keeps(arrays, name, drop, seed, number))


def test_depends_on_seed_round_client_and_tensor_only():
    first = drawn()
    assert torch.equal(first, drawn())
    assert torch.equal(first, drawn(state=dict(reversed(STATE.items()))))
    assert torch.equal(first, drawn(state={name: tensor.double() for name, tensor in STATE.items()}))
    other = STATE | {"a.weight": STATE["a.weight"] + 1e-3}
    for changed in (drawn(seed=1), drawn(number=1), drawn(name="a.weight"), drawn(state=other)):
        assert 0.4 < float((changed != first).double().mean()) < 0.6  # as two independent choices differ


def test_blocks_do_not_matter():
    whole = drawn(size=101)
    with patch.object(blocks, "BLOCK", 10):
        assert torch.equal(drawn(size=101), whole)
