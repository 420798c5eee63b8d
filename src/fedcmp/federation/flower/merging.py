"""One round's merge: what the rule merges, and what is only averaged.

A model's state_dict() holds more than what is trained. Counters (whole numbers) and running statistics of batch
normalisation are averaged, weighted by num_examples, whatever the rule: a step along a merged update, or half of one
dropped, would make a variance negative.
"""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

import torch
from torch import Tensor

from fedcmp.aggregation import Aggregator, ClientUpdate
from fedcmp.errors import UserError
from fedcmp.federation.bounds import check_bounds
from fedcmp.federation.flower.arrays import tensors_of
from fedcmp.federation.flower.records import ALIGNMENT_ERROR, ARRAYS, EXTRA, SECOND_MOMENT
from fedcmp.federation.flower.replies import Answer

Tensors = dict[str, Tensor]
RUNNING_STATISTICS = ("*running_mean", "*running_var")  # as PyTorch names them


def divide(state: Mapping[str, Tensor], averaged: Sequence[str]) -> tuple[Tensors, Tensors]:
    """Return the tensors that the rule merges, and those that are only averaged.

    Args:
        state: name -> tensor.
        averaged: patterns of names; tensors that are not of floating point are averaged whatever their name.

    Raises:
        UserError: nothing is left to the rule, or a tensor is complex.
    """
    beside = {
        name: tensor
        for name, tensor in state.items()
        if not tensor.is_floating_point() or any(fnmatchcase(name, pattern) for pattern in averaged)
    }
    for name, tensor in beside.items():
        if tensor.is_complex():
            raise UserError(f"arrays: {name} is {tensor.dtype}: send real tensors, for example torch.view_as_real")
    merged = {name: tensor for name, tensor in state.items() if name not in beside}
    if not merged:
        raise UserError("arrays: no tensor is left to the rule: pass the trained tensors, for example a state_dict()")
    return merged, beside


class Merge:
    """One round of a rule, begun.

    Args:
        aggregator: the rule.
        state: the tensors that the clients start from.
        averaged: see `divide`.
        measure_only: the clients took no step: the server's own tensors stand for theirs.

    Attributes:
        state: the tensors that the rule merges.
        norms: norm of each accepted update, in the order of `add`.
    """

    def __init__(
        self, aggregator: Aggregator, state: Tensors, *, averaged: Sequence[str], measure_only: bool = False
    ) -> None:
        self._aggregator, self._everything, self._measure_only = aggregator, state, measure_only
        self.state, self._beside = divide(state, averaged)
        self._sums = {name: torch.zeros(tensor.shape, dtype=torch.float64) for name, tensor in self._beside.items()}
        self._examples = 0
        self.norms: list[float] = []
        aggregator.begin(self.state)

    def add(self, answer: Answer) -> None:
        """Fold one client's answer in.

        Raises:
            ValueError: names the tensor that is missing, extra, of another shape or no number, or what else the rule
                needs and was not sent. The round stays as it was before the call.
        """
        received = self._everything if self._measure_only else _tensors(answer, ARRAYS)
        beside = {name: self._averaged(name, received) for name in self._beside}
        update = ClientUpdate(
            state={name: tensor for name, tensor in received.items() if name not in self._beside},
            num_examples=answer.num_examples,
            alignment_error=self._alignment_error(answer),
            second_moment=_tensors(answer, SECOND_MOMENT) if "second_moment" in self._aggregator.needs else None,
            extra=_extras(answer) if "extra" in self._aggregator.needs else None,
        )
        norm = check_bounds(update, self.state)
        self._aggregator.add(update)
        self.norms.append(norm)
        self._examples += answer.num_examples
        for name, tensor in beside.items():
            self._sums[name].add_(tensor, alpha=answer.num_examples)

    def finish(self) -> Tensors:
        """Return the next tensors, by the names and in the order of the first ones.

        Raises:
            ValueError: the rule cannot merge the updates.
        """
        merged = self._aggregator.finish()
        if self._measure_only:
            return {**self._everything, **merged}
        for name, before in self._beside.items():
            mean = self._sums[name] / self._examples
            merged[name] = (mean if before.is_floating_point() else mean.round()).to(before.dtype)
        return {name: merged[name] for name in self._everything}

    def _averaged(self, name: str, received: Mapping[str, Tensor]) -> Tensor:
        if name not in received:
            raise ValueError(f"tensor {name} is missing")
        tensor, before = received[name], self._beside[name]
        if tensor.shape != before.shape:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}; the server's has {tuple(before.shape)}")
        if tensor.is_floating_point() != before.is_floating_point() or tensor.is_complex():
            raise ValueError(f"{name} is {tensor.dtype}; the server's is {before.dtype}")
        numbers = tensor.to(torch.float64)
        if not bool(numbers.isfinite().all()):
            raise ValueError(f"{name} holds {int((~numbers.isfinite()).sum())} NaN or infinite values")
        return numbers

    def _alignment_error(self, answer: Answer) -> float:
        error = answer.metrics.get(ALIGNMENT_ERROR, 0.0)
        if isinstance(error, list) or ("alignment_error" in self._aggregator.needs and self._lacks_error(answer)):
            raise ValueError(
                f"metric {ALIGNMENT_ERROR!r} is missing, which the rule weighs clients by (docs/methods.md)"
            )
        return error

    def _lacks_error(self, answer: Answer) -> bool:
        return not self._measure_only and ALIGNMENT_ERROR not in answer.metrics


def _tensors(answer: Answer, name: str) -> Tensors:
    record = answer.content.array_records.get(name)
    if record is None:
        raise ValueError(f"ArrayRecord {name!r} is missing")
    return tensors_of(record)


def _extras(answer: Answer) -> dict[str, Tensors]:
    return {
        name.removeprefix(EXTRA): tensors_of(record)
        for name, record in answer.content.array_records.items()
        if name.startswith(EXTRA)
    }
