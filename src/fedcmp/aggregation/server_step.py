"""Rules that move the global tensors by a step made from the clients' mean update.

    D = sum_k s_k Delta_k / sum_j s_j        s_k = n_k unless the rule says otherwise; 0 when every s_k is 0
    theta = theta_g + step(D, slots)         entry by entry
A slot is what an optimiser keeps for each parameter (a momentum, a second moment); it lives between rounds, in float64.
Clients are folded in one at a time: one running sum, whatever the number of clients.
"""

from abc import abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor

from fedcmp.aggregation.blocks import blocks
from fedcmp.aggregation.change import Change, zeros_like
from fedcmp.aggregation.sum_rule import SumRule
from fedcmp.aggregation.sums import labelled, of_label
from fedcmp.aggregation.update import ClientUpdate, Public


class ServerStep(SumRule):
    """Base of the server optimisers; a rule implements `_step`, and `_score` if its mean is not weighted by samples.

    Args:
        slots: label -> value that every entry of the slot starts from.
    """

    def __init__(self, slots: Mapping[str, float] | None = None) -> None:
        super().__init__()
        self._slots = dict(slots or {})
        self._remembered: dict[
            str, dict[str, Tensor]
        ] = {}  # label -> tensor name -> tensor; empty before a first round
        self._coming: dict[str, dict[str, Tensor]] = {}

    @abstractmethod
    def _step(self, mean: Tensor, *slots: Tensor) -> Tensor:
        """Return how far the global tensors move.

        Args:
            mean: a stretch of D, any length, float64; may be changed in place.
            *slots: the same stretch of each slot, float64, in the order of __init__; to be brought up to date in place.

        Returns:
            The same stretch of the step.
        """

    def _score(self, update: ClientUpdate, change: Change) -> float:  # noqa: ARG002  # for rules that measure it
        """Return s_k >= 0, given the client's update and what it changed."""
        return float(int(update.num_examples))

    def _begin(self, global_state: dict[str, Tensor]) -> None:
        self._require_fit(global_state)
        super()._begin(global_state)
        self._coming = {}

    def _require_fit(self, global_state: Mapping[str, Tensor]) -> None:
        """Refuse tensors of other names or shapes than the slots that are remembered."""
        for slot in self._remembered.values():
            before = {name: tuple(tensor.shape) for name, tensor in slot.items()}
            now = {name: tuple(tensor.shape) for name, tensor in global_state.items()}
            for name in sorted(before.keys() | now.keys()):
                if before.get(name) != now.get(name):
                    change = f"is {now.get(name, 'missing')}, but the rounds before had {before.get(name, 'none')}"
                    raise ValueError(f"global state: {name} {change}; another model needs a new aggregator")

    def _zeros(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return labelled("delta", zeros_like(state))

    def _fold(
        self,
        place: str,  # noqa: ARG002  # nothing left to refuse
        update: ClientUpdate,
        public: Public,
        sums: Mapping[str, Tensor],
    ) -> dict[str, float]:
        change = self._change(update, public)
        score = self._score(update, change)
        if score > 0:
            for name, total in of_label("delta", sums).items():
                for delta, stretch in change.blocks(name, total):
                    stretch.add_(delta, alpha=score)
        return {"weight": score}

    def _merge(self) -> dict[str, Tensor]:
        self.last_weights = self._shares()
        self.last_diagnostics = {}
        total = self._total_weight()
        sums = of_label("delta", self._sums)
        self._coming = {label: self._copied(label) for label in self._slots}
        merged = {}
        for name, start in self._global.items():
            moved = torch.empty(start.shape, dtype=start.dtype, device=start.device)
            slots = [slot[name] for slot in self._coming.values()]
            for moved_block, start_block, sum_block, *slot_blocks in blocks(moved, start, sums[name], *slots):
                step = self._step(sum_block / total, *slot_blocks)
                moved_block.copy_(step.add_(start_block))
            merged[name] = moved
        return merged

    def _copied(self, label: str) -> dict[str, Tensor]:
        """Return a slot to be brought up to date: what is remembered, or its first values."""
        copied = zeros_like(self._global)
        for name, tensor in copied.items():
            if label in self._remembered:
                tensor.copy_(self._remembered[label][name])
            else:
                tensor.fill_(self._slots[label])
        return copied

    def _remember(self) -> None:
        self._remembered, self._coming = self._coming, {}

    def _memory(self) -> dict[str, Tensor]:
        return {f"{label}.{name}": t for label, slot in self._remembered.items() for name, t in slot.items()}

    def _recall(self, memory: dict[str, Tensor]) -> None:
        recalled: dict[str, dict[str, Tensor]] = {label: {} for label in self._slots}
        for entry, tensor in memory.items():
            label, _, name = entry.partition(".")
            if label not in recalled:
                raise ValueError(f"aggregator state: entry {entry!r} is not this method's")
            recalled[label][name] = tensor
        names = {name for slot in recalled.values() for name in slot}
        for label, slot in recalled.items():
            for name in names - slot.keys():
                raise ValueError(f"aggregator state: entry {f'{label}.{name}'!r} is missing")
        self._remembered = recalled if memory else {}
