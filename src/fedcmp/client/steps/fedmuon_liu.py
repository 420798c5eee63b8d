"""FedMuon (Liu et al.): Muon from the clients' mean momentum, mixed with the last round's direction.

Per weight matrix, its bias apart, G (O, I):
    M <- mu M + G                                      M starts from the mean over the last round's clients
    direction = (1 - a) polar(M) + a Delta_G           Delta_G of the last round, broadcast (aggregation/service.py)
Other tensors: AdamW at `rest_rate` times the rate. In a first round M and Delta_G are 0.
Implements docs/methods.md, FedMuon (Liu et al. 2025, arXiv 2510.27403).
Shapes: C learners, A of them active, O outputs, I inputs.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor

from fedcmp.aggregation.labels import DIRECTION, MUON_MOMENTUM
from fedcmp.aggregation.options import require_number
from fedcmp.aggregation.service import GlobalDirection, MeanStates, Service, weights
from fedcmp.client.local_round import LocalRound
from fedcmp.client.optimizer import Optimisation
from fedcmp.client.steps.base import Step
from fedcmp.client.steps.muon import MOMENTUM, RATE_FACTOR, REST_RATE, MuonOptimizer
from fedcmp.client.steps.registry import register_step
from fedcmp.client.steps.soap import require_whole


@register_step(
    "fedmuon-liu",
    summary="orthogonalised momentum from the clients' mean, mixed with the last round's direction",
    paper="Liu et al. 2025, arXiv 2510.27403",
    rate_factor=RATE_FACTOR,
)
class FedMuonLiu(Step):
    """FedMuon's client, as Liu et al. have it.

    Args:
        mixing: a in [0, 1].
        momentum: mu in [0, 1).
        iterations: Newton-Schulz iterations, at least 1.
        rest_rate: AdamW's rate for what is no matrix over the matrices', at least 0.
    """

    sends = frozenset({MUON_MOMENTUM})

    def __init__(
        self,
        *,
        mixing: float = 0.5,
        momentum: float = 0.95,
        iterations: int = 5,
        rest_rate: float = REST_RATE,
    ) -> None:
        require_number("mixing", mixing, 0, 1)
        require_number("momentum", momentum, 0, 0.9999)
        require_whole("iterations", iterations)
        require_number("rest_rate", rest_rate, 0, 1e6)
        self._mixing, self._momentum, self._iterations, self._rest_rate = mixing, momentum, iterations, rest_rate
        self._optimizer: FedMuonLiuOptimizer | None = None

    def services(self) -> Sequence[Service]:
        """Return what makes Delta_G and the mean of M."""
        return [GlobalDirection(), MeanStates({MUON_MOMENTUM: weights})]

    def optimizer(self, local: LocalRound, settings: Optimisation) -> "FedMuonLiuOptimizer":
        """Return Muon from the clients' mean."""
        optimizer = FedMuonLiuOptimizer(
            local.cohort.parameters,
            settings,
            momentum=self._momentum,
            iterations=self._iterations,
            rest_rate=self._rest_rate,
            scaled=False,
        )
        optimizer.mixing, optimizer.towards = self._mixing, local.stacked_broadcast(DIRECTION)
        like = {name: tensor[0] for name, tensor in optimizer.table(MOMENTUM).items()}
        optimizer.start_from(local.received(MUON_MOMENTUM, like) or {})
        self._optimizer = optimizer
        return optimizer

    def end(self, local: LocalRound) -> None:
        """Send M."""
        assert self._optimizer is not None
        if MUON_MOMENTUM in local.asked:
            local.extras[MUON_MOMENTUM] = dict(self._optimizer.table(MOMENTUM))


class FedMuonLiuOptimizer(MuonOptimizer):
    """Muon, mixed with a given direction; see MuonOptimizer.

    Attributes:
        mixing: a.
        towards: Delta_G, name -> (C, ...).
    """

    mixing: float
    towards: Mapping[str, Tensor]

    def _direction(self, name: str, gradient_AOI: Tensor, kept: dict[str, Tensor], learners_A: Tensor) -> Tensor:
        own_AOI = super()._direction(name, gradient_AOI, kept, learners_A)
        return (1 - self.mixing) * own_AOI + self.mixing * self.towards[name][learners_A]
