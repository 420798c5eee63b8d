"""FedPAC with SOAP: clients start from the mean of their preconditioners, and step towards the last round's direction.

Per weight matrix with its bias as one more column:
    direction = (1 - b) SOAP(G) + b Delta_G          Delta_G of the last round, broadcast (aggregation/service.py)
    L, R start from the means over the last round's clients, Q_L and Q_R from their eigenvectors
SOAP as in soap.py; M and V start fresh in each round. In a first round Delta_G = 0 and L, R are the learner's own.
Implements docs/methods.md, FedPAC (2026, arXiv 2602.19271).
Shapes: O outputs, I inputs (with the bias column).
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from fedcmp.aggregation.input_space import inputs_of, matrices_of
from fedcmp.aggregation.labels import DIRECTION, INPUT_GRAM, OUTPUT_GRAM
from fedcmp.aggregation.options import require_number
from fedcmp.aggregation.service import GlobalDirection, MeanStates, Service
from fedcmp.client.local_round import LocalRound
from fedcmp.client.optimizer import Optimisation
from fedcmp.client.steps.registry import register_step
from fedcmp.client.steps.soap import INPUTS, OUTPUTS, RATE_FACTOR, Soap, SoapOptimizer
from fedcmp.client.steps.stacked_matrices import join

_TABLES = {OUTPUT_GRAM: OUTPUTS, INPUT_GRAM: INPUTS}


@register_step(
    "fedpac-soap",
    summary="SOAP from the clients' mean preconditioner, mixed with the last round's direction",
    paper="2026, arXiv 2602.19271",
    rate_factor=RATE_FACTOR,
)
class FedPacSoap(Soap):
    """FedPAC's client with SOAP.

    Args:
        mixing: b in [0, 1].
        beta_1: as in Soap.
        beta_2: as in Soap.
        refresh: as in Soap.
    """

    sends = frozenset(_TABLES)

    def __init__(self, *, mixing: float = 0.5, beta_1: float = 0.95, beta_2: float = 0.95, refresh: int = 10) -> None:
        super().__init__(beta_1=beta_1, beta_2=beta_2, refresh=refresh)
        require_number("mixing", mixing, 0, 1)
        self._mixing = mixing
        self._optimizer: FedPacOptimizer | None = None

    def services(self) -> Sequence[Service]:
        """Return what makes Delta_G and the means of L and R."""
        return [GlobalDirection(), MeanStates({OUTPUT_GRAM: _output_squares, INPUT_GRAM: _input_squares})]

    def optimizer(self, local: LocalRound, settings: Optimisation) -> "FedPacOptimizer":
        """Return SOAP from the clients' means."""
        optimizer = FedPacOptimizer(
            local.cohort.parameters,
            self._settings(settings),
            refresh=self._refresh,
            mixing=self._mixing,
            towards=local.stacked_broadcast(DIRECTION),
        )
        sent = {
            table: local.received(label, {name: t[0] for name, t in optimizer.table(table).items()})
            for label, table in _TABLES.items()
        }
        optimizer.warm_start({table: grams for table, grams in sent.items() if grams is not None})
        self._optimizer = optimizer
        return optimizer

    def end(self, local: LocalRound) -> None:
        """Send L and R."""
        assert self._optimizer is not None
        for label, table in _TABLES.items():
            if label in local.asked:
                local.extras[label] = self._optimizer.table(table)


class FedPacOptimizer(SoapOptimizer):
    """SOAP, mixed with a given direction; see SoapOptimizer.

    Args:
        parameters: name -> (C, ...).
        settings: betas, epsilon and so on.
        refresh: steps between refreshes.
        mixing: b.
        towards: Delta_G, name -> (C, ...).
    """

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        settings: Optimisation,
        *,
        refresh: int,
        mixing: float,
        towards: Mapping[str, Tensor],
    ) -> None:
        super().__init__(parameters, settings, refresh=refresh)
        self._mixing = mixing
        self._towards = {matrix.weight: join(matrix, towards) for matrix in self._matrices}

    def _direction(self, name: str, gradient_AOI: Tensor, kept: dict[str, Tensor], learners_A: Tensor) -> Tensor:
        own_AOI = super()._direction(name, gradient_AOI, kept, learners_A)
        return (1 - self._mixing) * own_AOI + self._mixing * self._towards[name][learners_A]


def _output_squares(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weight's name -> (O, O)."""
    return {matrix.weight: _square(len(state[matrix.weight]), state) for matrix in matrices_of(state)}


def _input_squares(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weight's name -> (I, I)."""
    return {matrix.weight: _square(inputs_of(matrix, state), state) for matrix in matrices_of(state)}


def _square(size: int, state: Mapping[str, Tensor]) -> Tensor:
    """Return a shape, on the state's device: it takes no memory."""
    return torch.zeros((), device=next(iter(state.values())).device).expand(size, size)
