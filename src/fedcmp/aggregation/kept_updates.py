"""Rules that must see each client's matrices: they keep the K updates of a round.

Per weight matrix with its bias as one more input column: Delta_k (O, I), in float32 (float64 for a float64 model).
Tensors that are no matrix get FedAvg's mean  sum_k (n_k / n) Delta_k.
Shapes: K clients, O outputs, I inputs (with the bias column).
"""

from abc import abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor

from fedcmp.aggregation.base import Aggregator
from fedcmp.aggregation.change import moved, zeros_like
from fedcmp.aggregation.matrices import Matrix, find_matrices, not_in
from fedcmp.aggregation.update import ClientUpdate


class KeptUpdates(Aggregator):
    """Base of rules over all clients' matrices at once; a rule implements `_steps`.

    Every client counts the same in the matrices; a rule that weighs them overrides `_weights`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._matrices: list[Matrix] = []

    def _begin(self, global_state: dict[str, Tensor]) -> None:
        self._matrices = find_matrices(global_state, bias="column")
        self._rest = zeros_like(not_in(self._matrices, global_state))
        self._clients: list[dict[str, Tensor]] = []  # matrix name -> (O, I)
        self._counts: list[int] = []

    def _add(self, place: str, update: ClientUpdate) -> None:  # noqa: ARG002  # nothing left to refuse
        deltas = self._change(update, self.public()).whole()
        count = int(update.num_examples)
        for name, total in self._rest.items():
            total.add_(deltas[name], alpha=float(count))
        kept = {}
        for matrix in self._matrices:
            dtype = torch.promote_types(self._global[matrix.weight].dtype, torch.float32)
            kept[matrix.weight] = matrix.join(deltas).to(dtype)
        self._clients.append(kept)
        self._counts.append(count)

    def _merge(self) -> dict[str, Tensor]:
        merged = {name: moved(self._global[name], total / sum(self._counts)) for name, total in self._rest.items()}
        self.last_weights = self._weights()
        self.last_diagnostics = {}
        steps = self._steps()
        for matrix in self._matrices:
            split = matrix.split(steps[matrix.weight])
            merged |= {name: moved(self._global[name], step) for name, step in split.items()}
        return merged

    def _weights(self) -> list[float]:
        """Return each client's share, summing to 1."""
        return [1 / self._accepted] * self._accepted

    def _updates(self, name: str) -> list[Tensor]:
        """Return one matrix's Delta_k (O, I) of all clients, in float64."""
        return [client[name].to(torch.float64) for client in self._clients]

    @abstractmethod
    def _steps(self) -> Mapping[str, Tensor]:
        """Return how far each matrix moves, weight's name -> (O, I), float64; set last_diagnostics."""
