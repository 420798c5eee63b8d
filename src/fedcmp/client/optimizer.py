"""What takes the steps of many learners at once: every tensor is stacked, each learner has its own rate and step count.

Here is AdamW; other steps are in steps/. One learner's arithmetic is that of torch.optim.AdamW and
torch.nn.utils.clip_grad_norm_, to rounding. Shapes: C learners; a tensor of one learner (...) is (C, ...) here.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

Watcher = Callable[[Mapping[str, Tensor], Tensor, Tensor], None]
_CLIP_EPSILON = 1e-6  # as torch.nn.utils.clip_grad_norm_


@dataclass(frozen=True)
class Optimisation:
    """AdamW's settings; the rate comes from a schedule."""

    beta_1: float = 0.9
    beta_2: float = 0.99
    weight_decay: float = 0.0
    max_gradient_norm: float = 1.0
    epsilon: float = 1e-8


class StackedOptimizer(ABC):
    """What takes the steps of C learners that share nothing but the tensors' memory.

    A kind of step implements `_apply` and says in `tables` what it keeps.

    Args:
        parameters: name -> (C, ...) tensors, changed in place by `step`.
        settings: the same for all learners.

    Attributes:
        watchers: called before every step is applied, with its clipped gradients, learners and rates; read only.
        keeps_second_moment: whether it keeps AdamW's own second moment of every tensor's entries.
    """

    keeps_second_moment = False

    def __init__(self, parameters: Mapping[str, Tensor], settings: Optimisation) -> None:
        self._parameters, self._settings = parameters, settings
        self._steps_C = torch.zeros(len(next(iter(parameters.values()))), dtype=torch.float32)
        self.watchers: list[Watcher] = []

    def tables(self) -> Mapping[str, Mapping[str, Tensor]]:
        """Return what later steps depend on besides the counts of steps: label -> name -> (C, ...)."""
        return {}

    def load(self, learner: int, saved: Mapping[str, Tensor]) -> None:
        """Take up one learner's state, as `saved` returned it."""
        for label, named in self.tables().items():
            for name, tensor in named.items():
                tensor[learner] = saved[f"{label}.{name}"]
        for name in self._parameters:
            self._steps_C[learner] = float(saved[f"step.{name}"])

    def saved(self, learner: int) -> dict[str, Tensor]:
        """One learner's state by "label.tensor"; AdamW's under the names that torch.optim.AdamW gives its own."""
        out = {
            f"{label}.{name}": tensor[learner].cpu().clone()
            for label, named in self.tables().items()
            for name, tensor in named.items()
        }
        return out | {f"step.{name}": self._steps_C[learner].clone() for name in self._parameters}

    def part_state(self) -> dict[str, Tensor]:
        """Return all that later steps depend on, stacked over the learners: name -> (C, ...)."""
        tables = self.tables().items()
        named = {f"{label}.{name}": tensor for label, own in tables for name, tensor in own.items()}
        return named | {"step": self._steps_C}

    def load_part_state(self, saved: Mapping[str, Tensor]) -> None:
        """Take up what `part_state` returned."""
        for label, named in self.tables().items():
            for name, tensor in named.items():
                tensor.copy_(saved[f"{label}.{name}"])
        self._steps_C.copy_(saved["step"])

    def second_moment(self, learner: int) -> dict[str, Tensor] | None:  # noqa: ARG002  # for AdamW
        """One learner's bias-corrected second moment of its gradients; None: this step keeps none."""
        return None

    @torch.no_grad()
    def step(self, gradients: Mapping[str, Tensor], learners_A: Tensor, rates_A: Tensor) -> None:
        """One step of some of the learners; the others stay as they are.

        Args:
            gradients: name -> (A, ...) gradients of those learners; clipped here, each learner by its own norm. Their
                memory is used up: where projectors fill a GPU, there is none for copies.
            learners_A: (A,) which learners.
            rates_A: (A,) their learning rates.
        """
        scale_A = _clipping(gradients, self._settings.max_gradient_norm)
        for gradient in gradients.values():
            gradient.mul_(beside(scale_A, gradient))
        for watch in self.watchers:
            watch(gradients, learners_A, rates_A)
        self._apply(gradients, learners_A, rates_A)

    @abstractmethod
    def _apply(self, gradients: Mapping[str, Tensor], learners_A: Tensor, rates_A: Tensor) -> None:
        """Move the parameters of those learners; the gradients, clipped by now, may be overwritten."""


class StackedAdamW(StackedOptimizer):
    """AdamW for C learners.

    Args:
        parameters: name -> (C, ...) tensors, changed in place by `step`.
        settings: the same for all learners.
        rate_factors: tensor's name -> factor on its rate, or (C,) one for each learner; 1 where it is missing.
    """

    keeps_second_moment = True

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        settings: Optimisation,
        rate_factors: Mapping[str, float | Tensor] = MappingProxyType({}),
    ) -> None:
        super().__init__(parameters, settings)
        self._factors = rate_factors
        self._first = {name: torch.zeros_like(tensor, requires_grad=False) for name, tensor in parameters.items()}
        self._second = {name: torch.zeros_like(tensor, requires_grad=False) for name, tensor in parameters.items()}

    def tables(self) -> dict[str, Mapping[str, Tensor]]:
        """Return both moments."""
        return {"exp_avg": self._first, "exp_avg_sq": self._second}

    def second_moment(self, learner: int) -> dict[str, Tensor] | None:
        """One learner's bias-corrected second moment."""
        correction = 1 - self._settings.beta_2 ** float(self._steps_C[learner])
        return {name: (moment[learner] / correction).cpu() for name, moment in self._second.items()}

    def _apply(self, gradients: Mapping[str, Tensor], learners_A: Tensor, rates_A: Tensor) -> None:
        settings = self._settings
        self._steps_C[learners_A] += 1
        steps_A = self._steps_C[learners_A].double()
        step_size_A = rates_A.double() / (1 - settings.beta_1**steps_A)
        root_A = (1 - settings.beta_2**steps_A).sqrt()
        everyone = len(learners_A) == len(self._steps_C)
        for name, parameter in self._parameters.items():
            first, second, gradient = self._first[name], self._second[name], gradients[name]
            own_first = first if everyone else first[learners_A]
            own_second = second if everyone else second[learners_A]
            own = parameter.data if everyone else parameter.data[learners_A]
            factor = self._factors.get(name, 1.0)
            if isinstance(factor, Tensor):
                factor = factor[learners_A]
            own.mul_(beside(1 - factor * rates_A * settings.weight_decay, own))
            own_first.lerp_(gradient, 1 - settings.beta_1)
            own_second.mul_(settings.beta_2).addcmul_(gradient, gradient, value=1 - settings.beta_2)
            width = torch.sqrt(own_second, out=gradient).div_(beside(root_A, own)).add_(settings.epsilon)
            own.sub_((beside(factor * step_size_A, own) * own_first).div_(width))
            if not everyone:
                first[learners_A], second[learners_A], parameter.data[learners_A] = own_first, own_second, own


def _clipping(gradients: Mapping[str, Tensor], max_norm: float) -> Tensor:
    """(A,) what each learner's gradient is multiplied by, so that its norm is at most max_norm."""
    squares = [gradient.flatten(1).square().sum(1) for gradient in gradients.values()]
    norms_A = torch.stack(squares).sum(0).sqrt()
    return (max_norm / (norms_A + _CLIP_EPSILON)).clamp(max=1.0)


def beside(values_A: Tensor, like: Tensor) -> Tensor:
    """(A,) -> (A, 1, ...) in the dtype and on the device of `like`, to be multiplied with it."""
    return values_A.to(like.device, like.dtype).view(-1, *[1] * (like.dim() - 1))
