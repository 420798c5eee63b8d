"""Which tensors form a matrix."""

import pytest
import torch

from fedcmp.aggregation.matrices import Matrix, find_matrices

STATE = {
    "linear_1.weight": torch.arange(6.0).reshape(2, 3),
    "linear_1.bias": torch.tensor([10.0, 20.0]),
    "no_bias.weight": torch.ones(3, 2),
    "odd.weight": torch.ones(3, 2),
    "odd.bias": torch.ones(2),
    "norm.weight": torch.ones(4),
    "norm.bias": torch.ones(4),
    "conv.weight": torch.ones(2, 2, 1, 1),
    "empty.weight": torch.ones(0, 3),
    "my_weight": torch.ones(2, 2),
    "weight": torch.ones(2, 2),
    "bias": torch.ones(2),
}


def test_pairs_weights_with_matching_biases():
    assert find_matrices(STATE, bias="column") == [
        Matrix("linear_1.weight", "linear_1.bias"),
        Matrix("no_bias.weight", None),
        Matrix("odd.weight", None),
        Matrix("weight", "bias"),
    ]
    assert {matrix.bias for matrix in find_matrices(STATE, bias="average")} == {None}


@pytest.mark.parametrize("bias", ["column", "average"])
def test_split_undoes_join(bias):
    for matrix in find_matrices(STATE, bias=bias):
        joined = matrix.join(STATE)
        assert joined.dtype == torch.float64
        assert joined.shape[1] == STATE[matrix.weight].shape[1] + (matrix.bias is not None)
        for name, tensor in matrix.split(joined).items():
            assert torch.equal(tensor, STATE[name].double())
