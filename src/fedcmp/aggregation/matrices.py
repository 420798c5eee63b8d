"""Which of the trained tensors form matrices, and a matrix with its bias as one more input column.

X.weight (O, I)  and  X.bias (O,)   ->   [weight | bias]  (O, I + 1)          with bias = "column"
Shapes: O outputs of a linear layer, I inputs (the bias column counted in, where there is one).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Matrix:
    """One weight matrix of the trained tensors.

    Attributes:
        weight: name of the 2-D tensor; the matrix goes by this name.
        bias: name of the 1-D tensor appended as a column, or None.
    """

    weight: str
    bias: str | None

    def join(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Return the matrix (O, I), float64, from a state or an update that holds its tensors."""
        weight_OI = tensors[self.weight].detach().to(torch.float64)
        if self.bias is None:
            return weight_OI
        bias_O = tensors[self.bias].detach().to(device=weight_OI.device, dtype=torch.float64)
        return torch.cat([weight_OI, bias_O[:, None]], dim=1)

    def split(self, matrix_OI: Tensor) -> dict[str, Tensor]:
        """Return the matrix's tensors by name, the reverse of `join`."""
        if self.bias is None:
            return {self.weight: matrix_OI}
        return {self.weight: matrix_OI[:, :-1], self.bias: matrix_OI[:, -1]}


def find_matrices(state: Mapping[str, Tensor], *, bias: str) -> list[Matrix]:
    """Find the matrices of a state; all other tensors are left to a weighted mean.

    Args:
        state: tensor name -> tensor.
        bias: "column" pairs X.weight (O, I) with X.bias (O,); "average" leaves every bias out.

    Returns:
        One entry for each 2-D tensor named X.weight (or just "weight"), in the state's order.
    """
    matrices = []
    for name, tensor in state.items():
        if name.rpartition(".")[2] != "weight" or tensor.ndim != 2 or tensor.numel() == 0:
            continue
        partner = name[: -len("weight")] + "bias"
        paired = bias == "column" and partner in state and state[partner].shape == tensor.shape[:1]
        matrices.append(Matrix(name, partner if paired else None))
    return matrices


def not_in(matrices: Iterable[Matrix], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a state that belong to none of the matrices, in the state's order."""
    joined = {part for matrix in matrices for part in (matrix.weight, matrix.bias)}
    return {name: tensor for name, tensor in state.items() if name not in joined}
