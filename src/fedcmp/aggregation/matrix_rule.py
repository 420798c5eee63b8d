"""Rules that merge whole matrices from sums over clients; every other tensor gets FedAvg's mean.

Per weight matrix with its bias as one more input column, a client adds named terms made of its Delta_k (O, I), for
example Delta_k itself; the server turns their sums into the matrix's step.  For what is no matrix: n_k Delta_k.
Shapes: O outputs, I inputs (with the bias column).
"""

from abc import abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor

from fedcmp.aggregation.change import moved, zeros_like
from fedcmp.aggregation.matrices import find_matrices, not_in
from fedcmp.aggregation.sum_rule import SumRule
from fedcmp.aggregation.sums import labelled, of_label
from fedcmp.aggregation.update import ClientUpdate, Public

REST = "delta"  # what is no matrix


class MatrixRule(SumRule):
    """Base of the rules that need sums of matrices; a rule implements `_shapes`, `_terms` and `_step`.

    Every client counts the same in the matrices; a rule that weighs them overrides `_weight`.
    """

    def _zeros(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        matrices = find_matrices(state, bias="column")
        sums = labelled(REST, zeros_like(not_in(matrices, state)))
        for matrix in matrices:
            weight_OI = state[matrix.weight]
            outputs, inputs = weight_OI.shape[0], weight_OI.shape[1] + (matrix.bias is not None)
            for label, shape in self._shapes(outputs, inputs).items():
                sums[f"{label}.{matrix.weight}"] = weight_OI.new_zeros(shape, dtype=torch.float64)
        return sums

    def _fold(self, place: str, update: ClientUpdate, public: Public, sums: Mapping[str, Tensor]) -> dict[str, float]:
        sent = self._sent(place, update, public)
        deltas = self._change(update, public).whole()
        for name, total in of_label(REST, sums).items():
            total.add_(deltas[name], alpha=float(int(update.num_examples)))
        weight = self._weight(update)
        for matrix in find_matrices(public.state, bias="column"):
            name = matrix.weight
            for label, term in self._terms(matrix.join(deltas), sent.get(name)).items():
                sums[f"{label}.{name}"].add_(term, alpha=weight)
        return {"weight": weight}

    def _merge(self) -> dict[str, Tensor]:
        self.last_weights = self._shares()
        self.last_diagnostics = {}
        examples = self._total("examples")
        merged = {
            name: moved(self._global[name], total / examples) for name, total in of_label(REST, self._sums).items()
        }
        for matrix in find_matrices(self._global, bias="column"):
            name = matrix.weight
            sums = {label: self._sums[f"{label}.{name}"] for label in self._shapes(1, 1)}
            step_OI = self._step(name, sums)
            merged |= {part: moved(self._global[part], step) for part, step in matrix.split(step_OI).items()}
        return merged

    def _weight(self, update: ClientUpdate) -> float:  # noqa: ARG002  # for rules that count samples
        """Return the factor of a client's terms."""
        return 1.0

    def _sent(self, place: str, update: ClientUpdate, public: Public) -> Mapping[str, Tensor]:  # noqa: ARG002
        """Return what the rule reads besides a client's tensors, weight's name -> tensor; ValueError if it is bad."""
        return {}

    @abstractmethod
    def _shapes(self, outputs: int, inputs: int) -> dict[str, tuple[int, int]]:
        """Return the sums of a matrix (O, I), label -> shape; no label is "delta"."""

    @abstractmethod
    def _terms(self, delta_OI: Tensor, sent: Tensor | None) -> dict[str, Tensor]:
        """Return what a client adds to a matrix's sums, label -> tensor, float64, given its change and what it sent."""

    @abstractmethod
    def _step(self, name: str, sums: Mapping[str, Tensor]) -> Tensor:
        """Return how far a matrix moves (O, I), float64, given its sums by label; may add to last_diagnostics."""
