"""FedAdamW: AdamW from the clients' mean second moment, plus the last round's direction.

    m <- b_1 m + (1 - b_1) g,   v <- b_2 v + (1 - b_2) g * g          entry by entry of every tensor
    X <- (1 - rate * decay) X - rate [ m / (1 - b_1^k) / (sqrt(v / (1 - b_2^t)) + epsilon) + a Delta_G ]
v starts from the mean over the last round's clients; k counts the round's steps, t goes on over the rounds (the mean of
the clients' counts). m starts from 0 in each round. Delta_G of the last round is broadcast (aggregation/service.py).
Implements docs/methods.md, FedAdamW (2025, arXiv 2510.27486).
Shapes: C learners; a tensor of one learner (...) is (C, ...) here.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from fedcmp.aggregation.labels import ADAM_AGE, ADAM_SECOND, DIRECTION
from fedcmp.aggregation.options import require_number
from fedcmp.aggregation.service import GlobalDirection, MeanStates, Service
from fedcmp.client.local_round import LocalRound
from fedcmp.client.optimizer import Optimisation, StackedOptimizer, beside
from fedcmp.client.steps.base import Step
from fedcmp.client.steps.registry import register_step

_AGE = "steps"


@register_step(
    "fedadamw",
    summary="AdamW from the clients' mean second moment, plus the last round's direction",
    paper="2025, arXiv 2510.27486",
)
class FedAdamW(Step):
    """FedAdamW's client.

    Args:
        mixing: a, at least 0.
    """

    sends = frozenset({ADAM_SECOND, ADAM_AGE})

    def __init__(self, *, mixing: float = 0.5) -> None:
        require_number("mixing", mixing, 0, 100)
        self._mixing = mixing
        self._optimizer: FedAdamWOptimizer | None = None

    def services(self) -> Sequence[Service]:
        """Return what makes Delta_G and the means of v and t."""
        return [GlobalDirection(), MeanStates({ADAM_SECOND: dict, ADAM_AGE: _age})]

    def optimizer(self, local: LocalRound, settings: Optimisation) -> "FedAdamWOptimizer":
        """Return AdamW from the clients' mean."""
        self._optimizer = FedAdamWOptimizer(
            local.cohort.parameters,
            settings,
            mixing=self._mixing,
            towards=local.stacked_broadcast(DIRECTION),
            second=local.stacked_broadcast(ADAM_SECOND),
            age=float((local.received(ADAM_AGE, {_AGE: torch.zeros(())}) or {}).get(_AGE, 0.0)),
        )
        return self._optimizer

    def end(self, local: LocalRound) -> None:
        """Send v and t."""
        assert self._optimizer is not None
        own = self._optimizer.tables()["exp_avg_sq"]
        found = {ADAM_SECOND: dict(own), ADAM_AGE: {_AGE: self._optimizer.ages.float()}}
        local.extras.update({label: named for label, named in found.items() if label in local.asked})


class FedAdamWOptimizer(StackedOptimizer):
    """AdamW that begins in the middle, with a direction on top.

    Args:
        parameters: name -> (C, ...).
        settings: betas, epsilon and so on.
        mixing: a.
        towards: Delta_G, name -> (C, ...).
        second: v at the start, likewise.
        age: t at the start.
    """

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        settings: Optimisation,
        *,
        mixing: float,
        towards: Mapping[str, Tensor],
        second: Mapping[str, Tensor],
        age: float,
    ) -> None:
        super().__init__(parameters, settings)
        self._mixing, self._towards, self._age = mixing, towards, age
        self._first = {name: torch.zeros_like(tensor, requires_grad=False) for name, tensor in parameters.items()}
        self._second = {name: second[name].detach().clone() for name in parameters}

    @property
    def ages(self) -> Tensor:
        """(C,) t of each learner."""
        return self._steps_C.double() + self._age

    def tables(self) -> dict[str, Mapping[str, Tensor]]:
        """Return both moments."""
        return {"exp_avg": self._first, "exp_avg_sq": self._second}

    def _apply(self, gradients: Mapping[str, Tensor], learners_A: Tensor, rates_A: Tensor) -> None:
        settings = self._settings
        self._steps_C[learners_A] += 1
        first_A = 1 - settings.beta_1 ** self._steps_C[learners_A].double()
        second_A = 1 - settings.beta_2 ** self.ages[learners_A]
        for name, parameter in self._parameters.items():
            gradient, own = gradients[name], parameter.data[learners_A]
            first = torch.lerp(self._first[name][learners_A], gradient, 1 - settings.beta_1)
            second = torch.lerp(self._second[name][learners_A], gradient.square(), 1 - settings.beta_2)
            width = (second / beside(second_A, own)).sqrt() + settings.epsilon
            direction = first / beside(first_A, own) / width + self._mixing * self._towards[name][learners_A]
            own = own * beside(1 - rates_A * settings.weight_decay, own) - beside(rates_A, own) * direction
            self._first[name][learners_A], self._second[name][learners_A] = first, second
            parameter.data[learners_A] = own


def _age(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the form of a count of steps."""
    return {_AGE: torch.zeros((), device=next(iter(state.values())).device)}
