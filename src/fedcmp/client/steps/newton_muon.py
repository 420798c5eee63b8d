"""Newton-Muon: Muon's momentum over the layer's inputs' second moment, orthogonalised.

Per weight matrix, its bias apart, G (O, I):
    M <- mu M + G
    direction = sqrt(O / I) polar(M C~^-1)        C~: the client's own running C, damped (input_moments.py)
Other tensors: AdamW at `rest_rate` times the rate.
Implements docs/methods.md, Newton-Muon (2026, arXiv 2604.01472).
Shapes: C learners, A of them active, O outputs, I inputs.
"""

from collections.abc import Mapping

from torch import Tensor

from fedcmp.aggregation.options import require_number
from fedcmp.client.local_round import LocalRound
from fedcmp.client.optimizer import Optimisation
from fedcmp.client.steps.input_moments import InputMoments, SeesInputs, divided
from fedcmp.client.steps.muon import RATE_FACTOR, REST_RATE, MuonOptimizer
from fedcmp.client.steps.registry import register_step
from fedcmp.client.steps.soap import require_whole


@register_step(
    "newton-muon",
    summary="momentum over the second moment of a layer's inputs, orthogonalised",
    paper="2026, arXiv 2604.01472",
    rate_factor=RATE_FACTOR,
)
class NewtonMuon(SeesInputs):
    """Newton-Muon.

    Args:
        momentum: mu in [0, 1).
        iterations: Newton-Schulz iterations, at least 1.
        damping: share of C's mean diagonal entry that is added to its diagonal, above 0.
        decay: of the running C, in [0, 1).
        rest_rate: AdamW's rate for what is no matrix over the matrices', at least 0.
    """

    def __init__(
        self,
        *,
        momentum: float = 0.95,
        iterations: int = 5,
        damping: float = 0.1,
        decay: float = 0.95,
        rest_rate: float = REST_RATE,
    ) -> None:
        super().__init__(damping=damping, decay=decay)
        require_number("momentum", momentum, 0, 0.9999)
        require_whole("iterations", iterations)
        require_number("rest_rate", rest_rate, 0, 1e6)
        self._momentum, self._iterations, self._rest_rate = momentum, iterations, rest_rate

    def optimizer(self, local: LocalRound, settings: Optimisation) -> "NewtonMuonOptimizer":
        """Return Newton-Muon."""
        return NewtonMuonOptimizer(
            local.cohort.parameters,
            settings,
            self.see(local),
            momentum=self._momentum,
            iterations=self._iterations,
            rest_rate=self._rest_rate,
        )


class NewtonMuonOptimizer(MuonOptimizer):
    """Newton-Muon on matrices; see MuonOptimizer.

    Args:
        parameters: name -> (C, ...).
        settings: clipping, weight decay, AdamW's moments.
        moments: the learners' second moments of inputs, kept up by whoever owns them.
        momentum: mu.
        iterations: of Newton and Schulz.
        rest_rate: AdamW's rate over the matrices'.
    """

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        settings: Optimisation,
        moments: InputMoments,
        *,
        momentum: float,
        iterations: int,
        rest_rate: float,
    ) -> None:
        super().__init__(parameters, settings, momentum=momentum, iterations=iterations, rest_rate=rest_rate)
        self._moments = moments

    def _steered(self, name: str, momentum_AOI: Tensor, learners_A: Tensor) -> Tensor:
        return divided(momentum_AOI, self._moments.damped(name, learners_A, bias=False))
