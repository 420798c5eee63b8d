"""FedMuon (Takezawa et al.): Muon's momentum, corrected by control variates.

Per weight matrix, its bias apart, G (O, I):
    M <- (1 - a) M + a G
    direction = polar(M - C_k + C)                     C broadcast, C_k the client's own; both 0 at first
    at the end of a round  C_k <- M;   C_k new - C_k is sent,   C <- C + (1/N) sum_k (C_k new - C_k)
M starts where it ended in the client's last round, which is C_k. Other tensors: AdamW at `rest_rate` times the rate.
Implements docs/methods.md, FedMuon (Takezawa et al. 2026, arXiv 2509.26337).
Shapes: C learners, A of them active, O outputs, I inputs.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor

from fedcmp.aggregation.labels import MOMENTUM_CHANGE, MOMENTUM_CONTROL
from fedcmp.aggregation.options import require_number
from fedcmp.aggregation.service import MomentumControl, Service
from fedcmp.client.local_round import LocalRound
from fedcmp.client.optimizer import Optimisation
from fedcmp.client.steps.base import Step
from fedcmp.client.steps.muon import MOMENTUM, RATE_FACTOR, REST_RATE, MuonOptimizer
from fedcmp.client.steps.registry import register_step
from fedcmp.client.steps.soap import require_whole

_OWN = "fedmuon_momentum"  # C_k, which stays with the client


@register_step(
    "fedmuon",
    summary="orthogonalised momentum with control variates",
    paper="Takezawa et al. 2026, arXiv 2509.26337",
    rate_factor=RATE_FACTOR,
)
class FedMuon(Step):
    """FedMuon's client.

    Args:
        alpha: a in (0, 1]: how much of the momentum a gradient makes.
        iterations: Newton-Schulz iterations, at least 1.
        rest_rate: AdamW's rate for what is no matrix over the matrices', at least 0.
        total_clients: N, all clients of the federation; None: those of each round (everyone takes part).
    """

    sends = frozenset({MOMENTUM_CHANGE})

    def __init__(
        self,
        *,
        alpha: float = 0.1,
        iterations: int = 5,
        rest_rate: float = REST_RATE,
        total_clients: int | None = None,
    ) -> None:
        require_number("alpha", alpha, 0, 1, above=True)
        require_whole("iterations", iterations)
        require_number("rest_rate", rest_rate, 0, 1e6)
        if total_clients is not None:
            require_whole("total_clients", total_clients)
        self._alpha, self._iterations, self._rest_rate = alpha, iterations, rest_rate
        self._total_clients = total_clients
        self._optimizer: FedMuonOptimizer | None = None
        self._before: Mapping[str, Tensor] = {}

    def services(self) -> Sequence[Service]:
        """Return what keeps C."""
        return [MomentumControl(total_clients=self._total_clients)]

    def optimizer(self, local: LocalRound, settings: Optimisation) -> "FedMuonOptimizer":
        """Return Muon with the round's control variates."""
        optimizer = FedMuonOptimizer(
            local.cohort.parameters,
            settings,
            momentum=1 - self._alpha,
            gain=self._alpha,
            iterations=self._iterations,
            rest_rate=self._rest_rate,
            scaled=False,
        )
        zeros = {name: tensor * 0 for name, tensor in optimizer.table(MOMENTUM).items()}
        self._before = local.memory.get(_OWN, zeros)
        optimizer.start_from(self._before)
        sent = local.received(MOMENTUM_CONTROL, {name: tensor[0] for name, tensor in zeros.items()}) or {}
        optimizer.correction = {name: sent.get(name, 0.0) - own for name, own in self._before.items()}
        self._optimizer = optimizer
        return optimizer

    def end(self, local: LocalRound) -> None:
        """Send how C_k changed, and keep it."""
        assert self._optimizer is not None
        after = self._optimizer.table(MOMENTUM)
        if MOMENTUM_CHANGE in local.asked:
            local.extras[MOMENTUM_CHANGE] = {name: after[name] - self._before[name].to(after[name]) for name in after}
        local.memory[_OWN] = dict(after)


class FedMuonOptimizer(MuonOptimizer):
    """Muon, orthogonalising M + correction; see MuonOptimizer.

    Attributes:
        correction: C - C_k, weight's name -> (C, O, I).
    """

    correction: Mapping[str, Tensor]

    def _steered(self, name: str, momentum_AOI: Tensor, learners_A: Tensor) -> Tensor:
        return momentum_AOI + self.correction[name][learners_A].to(momentum_AOI)
