"""Blocks cover their tensors, in step."""

from unittest.mock import patch

import pytest
import torch

from fedcmp.aggregation import blocks


@pytest.mark.parametrize("shape", [(), (1,), (4,), (3, 7), (5, 2, 3)])
def test_stretches_join_up_to_the_tensors(shape):
    first, second = torch.randn(shape), torch.randn(shape).bfloat16()
    with patch.object(blocks, "BLOCK", 4):
        pairs = list(blocks.blocks(first, second))
    assert all(a.shape == b.shape for a, b in pairs)
    assert all(len(a) == 4 for a, _ in pairs[:-1])
    assert torch.equal(torch.cat([a for a, _ in pairs]), first.reshape(-1))
    assert torch.equal(torch.cat([b for _, b in pairs]), second.reshape(-1))


def test_stretches_of_a_contiguous_tensor_write_through_and_transposed_ones_are_read_in_order():
    written, read = torch.zeros(5, 3), torch.arange(15.0).view(3, 5).t()
    with patch.object(blocks, "BLOCK", 4):
        for into, values in blocks.blocks(written, read):
            into.copy_(values)
    assert torch.equal(written, read)


def test_empty_tensors_and_unequal_lengths():
    assert [len(stretch) for (stretch,) in blocks.blocks(torch.zeros(0, 3))] == [0]
    with patch.object(blocks, "BLOCK", 4), pytest.raises(ValueError, match="shorter"):
        list(blocks.blocks(torch.zeros(9), torch.zeros(4)))


def test_blocks_are_even():
    assert blocks.BLOCK % 2 == 0  # the random stream of dropping.py is drawn in pairs
