"""The weight matrices of many learners at once, with or without their biases as one more column.

Shapes: C learners (or the A active ones), O outputs, I inputs (with the bias column, where there is one).
"""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from fedcmp.aggregation.matrices import Matrix, find_matrices

Bias = Literal["column", "average"]  # as one more column of its matrix, or apart from it


def matrices_of(parameters: Mapping[str, Tensor], *, bias: Bias) -> list[Matrix]:
    """Return the matrices of stacked tensors, name -> (C, ...)."""
    return find_matrices({name: tensor[0] for name, tensor in parameters.items()}, bias=bias)


def join(matrix: Matrix, tensors: Mapping[str, Tensor]) -> Tensor:
    """Return (C, O, I) matrices, with their bias as the last column where they have one."""
    weight_COI = tensors[matrix.weight].detach()
    if matrix.bias is None:
        return weight_COI
    return torch.cat([weight_COI, tensors[matrix.bias].detach()[..., None]], dim=-1)


def write(matrix: Matrix, joined_AOI: Tensor, parameters: Mapping[str, Tensor], learners_A: Tensor) -> None:
    """Write the matrices of some learners into their tensors; the others keep theirs bit for bit."""
    if matrix.bias is None:
        parameters[matrix.weight].data[learners_A] = joined_AOI
        return
    parameters[matrix.weight].data[learners_A] = joined_AOI[:, :, :-1]
    parameters[matrix.bias].data[learners_A] = joined_AOI[:, :, -1]
