"""A step of its own for every weight matrix, AdamW for whatever is no matrix.

    X <- (1 - rate * decay) X - rate * direction(G)          X (O, I), G its gradient, clipped over all tensors before
A kind of step implements `_direction` on stacked matrices, and keeps what it needs in tables.
Shapes: C learners, A of them active, O outputs, I inputs (with the bias column, where biases are columns).
"""

from abc import abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor

from fedcmp.aggregation.matrices import not_in
from fedcmp.client.optimizer import Optimisation, StackedAdamW, StackedOptimizer, beside
from fedcmp.client.steps.stacked_matrices import Bias, join, matrices_of, write


class MatrixOptimizer(StackedOptimizer):
    """Base of the steps on matrices.

    Args:
        parameters: name -> (C, ...).
        settings: clipping and weight decay of all; AdamW's moments of what is no matrix.
        bias: whether a bias is its matrix's last column, or stepped by AdamW.
        rest_factor: AdamW's rate over that of the matrices.
    """

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        settings: Optimisation,
        *,
        bias: Bias,
        rest_factor: float = 1.0,
    ) -> None:
        super().__init__(parameters, settings)
        self._matrices = matrices_of(parameters, bias=bias)
        rest = not_in(self._matrices, parameters)
        self._rest = StackedAdamW(rest, settings, dict.fromkeys(rest, rest_factor)) if rest else None
        self._tables: dict[str, dict[str, Tensor]] = {}

    def tables(self) -> Mapping[str, Mapping[str, Tensor]]:
        """Return what the matrices' step keeps, and AdamW's moments of the rest."""
        out = {label: dict(named) for label, named in self._tables.items()}
        for label, named in (self._rest.tables() if self._rest else {}).items():
            out[label] = out.get(label, {}) | dict(named)
        return out

    def load(self, learner: int, saved: Mapping[str, Tensor]) -> None:
        """Take up one learner's state, as `saved` returned it."""
        super().load(learner, saved)
        self._count_rest()

    def load_part_state(self, saved: Mapping[str, Tensor]) -> None:
        """Take up what `part_state` returned."""
        super().load_part_state(saved)
        self._count_rest()

    def table(self, label: str) -> dict[str, Tensor]:
        """Return one table, weight's name -> (C, ...)."""
        return self._tables[label]

    def _add_table(self, label: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Begin a table of zeros, weight's name -> shape of one learner's."""
        self._tables[label] = {
            name: torch.zeros(
                len(self._steps_C), *shape, dtype=self._parameters[name].dtype, device=self._parameters[name].device
            )
            for name, shape in shapes.items()
        }

    def _shapes(self) -> dict[str, tuple[int, int]]:
        """Return weight's name -> (O, I)."""
        shapes = {}
        for matrix in self._matrices:
            _, outputs, inputs = self._parameters[matrix.weight].shape
            shapes[matrix.weight] = (outputs, inputs + (matrix.bias is not None))
        return shapes

    def _count_rest(self) -> None:
        if self._rest:
            self._rest._steps_C.copy_(self._steps_C)  # both step together

    def _apply(self, gradients: Mapping[str, Tensor], learners_A: Tensor, rates_A: Tensor) -> None:
        self._steps_C[learners_A] += 1
        for matrix in self._matrices:
            name = matrix.weight
            kept = {label: table[name][learners_A] for label, table in self._tables.items()}
            direction_AOI = self._direction(name, join(matrix, gradients), kept, learners_A)
            for label, tensor in kept.items():
                self._tables[label][name][learners_A] = tensor
            own_AOI = join(matrix, self._parameters)[learners_A]
            own_AOI = own_AOI * beside(1 - rates_A * self._settings.weight_decay, own_AOI)
            write(matrix, own_AOI - beside(rates_A, own_AOI) * direction_AOI, self._parameters, learners_A)
        if self._rest:
            rest = {name: gradients[name] for name in self._rest._parameters}
            self._rest._apply(rest, learners_A, rates_A)  # clipped already

    @abstractmethod
    def _direction(self, name: str, gradient_AOI: Tensor, kept: dict[str, Tensor], learners_A: Tensor) -> Tensor:
        """Return which way a matrix goes at rate 1, downhill positive: it is subtracted.

        Args:
            name: the weight's.
            gradient_AOI: clipped.
            kept: label -> (A, ...), what the tables hold of this matrix; the entries that are put there are kept.
            learners_A: (A,) which learners; their counts of steps include this one.

        Returns:
            (A, O, I).
        """
