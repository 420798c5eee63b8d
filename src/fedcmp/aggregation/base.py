"""What travels from a client to the server, and the shape of every server rule.

A rule sees one round as begin(global), add(update) for each client, finish() -> next global.  Updates are folded in one
at a time and forgotten, so a rule that keeps running sums needs the same memory for 5 clients and for 500.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fedcmp.aggregation.blocks import blocks
from fedcmp.aggregation.checks import check_alignment_error, check_global_state, check_num_examples, check_tensors


@dataclass(frozen=True, eq=False)  # eq: tensors have no single truth value
class ClientUpdate:
    """What one client sends after its local round.

    Attributes:
        state: tensor name -> the client's projector after training (not the difference), any floating dtype.
        num_examples: samples that it trained on in this round, at least 1.
        alignment_error: E_k in [0, 2], mean over its samples of 1 - cos(mean visual token, mean caption token).
        second_moment: tensor name -> AdamW's bias-corrected second moment at the end of the round, shaped as in
            `state`; for rules that weigh each parameter.
        extra: what a single rule needs: label -> tensor name -> tensor.
    """

    state: dict[str, Tensor]
    num_examples: int
    alignment_error: float = 0.0
    second_moment: dict[str, Tensor] | None = None
    extra: dict[str, dict[str, Tensor]] | None = None


class Aggregator(ABC):
    """Base of every server rule.

    A rule never changes its inputs, returns the global state's dtypes and devices but computes in float64, and ignores
    the order of clients up to rounding.  A refused add() leaves everything as it was, so a round may go on without
    that client.  A rule implements `_begin`, `_add` and `_merge`; one that remembers something between rounds also
    `_remember`, `_memory` and `_recall`.

    Attributes:
        needs: fields of ClientUpdate that the rule reads beyond `state` and `num_examples`; others need not be sent.
        opening: whether a round that only measures comes before the first: clients send the global projector back as it
            is, with the extras that the rule needs.
        round: rounds finished so far, the opening one counted in.
        last_weights: each client's share a_k of the last finished round, summing to 1, in the order of the accepted
            updates.
        last_diagnostics: scalars of the last finished round, for the run's metrics.
    """

    def __init__(self) -> None:
        self.needs: frozenset[str] = frozenset()
        self.opening = False
        self.round = 0
        self.last_weights: list[float] = []
        self.last_diagnostics: dict[str, float] = {}
        self._global: dict[str, Tensor] = {}
        self._offered = 0
        self._accepted = 0

    def aggregate(self, global_state: Mapping[str, Tensor], updates: Iterable[ClientUpdate]) -> dict[str, Tensor]:
        """Merge one round's updates: begin, add each, finish.

        Args:
            global_state: tensor name -> the projector that was broadcast.
            updates: the clients' updates; an iterator is read once, one update in memory at a time.

        Returns:
            Tensor name -> the next global projector, with the names, order, shapes, dtypes and devices of global_state.

        Raises:
            ValueError: from begin, add or finish.
        """
        self.begin(global_state)
        for update in updates:
            self.add(update)
        return self.finish()

    def begin(self, global_state: Mapping[str, Tensor]) -> None:
        """Open a round; a round that was left unfinished is forgotten.

        Args:
            global_state: tensor name -> the projector that was broadcast. It is copied: the caller may train in place.

        Raises:
            ValueError: the state is empty or not finite, or does not fit what the rule remembers.
        """
        self._global = {}
        self._offered = self._accepted = 0
        check_global_state(global_state)
        copied = {name: tensor.detach().clone() for name, tensor in global_state.items()}
        self._begin(copied)
        self._global = copied

    def add(self, update: ClientUpdate) -> None:
        """Fold one client's update in.

        Args:
            update: the client's update. Its index in error messages counts the calls since begin(), from 0.

        Raises:
            ValueError: missing or extra tensors, wrong shapes, NaN or infinity, num_examples < 1, or a field that the
                rule needs is missing. The round stays as it was before the call.
            RuntimeError: no round is open.
        """
        self._require_open("add")
        place = f"client {self._offered}"
        self._offered += 1
        check_tensors(place, update.state, self._global)
        check_num_examples(place, update.num_examples)
        check_alignment_error(place, update.alignment_error)
        self._add(place, update)
        self._accepted += 1

    def finish(self) -> dict[str, Tensor]:
        """Close the round.

        Returns:
            Tensor name -> the next global projector, as in `aggregate`.

        Raises:
            ValueError: no update was accepted, or the result does not fit the dtype; memory is left as it was.
            RuntimeError: no round is open.
        """
        self._require_open("finish")
        if self._accepted == 0:
            raise ValueError("round without clients: no update was accepted; add at least one before finish()")
        merged = self._merge()
        result = {name: _settled(merged[name], start) for name, start in self._global.items()}
        for name, tensor in result.items():
            if tensor.numel() > 0 and not all(math.isfinite(edge) for edge in torch.aminmax(tensor)):
                raise ValueError(f"merged {name}: its values do not fit {tensor.dtype}; use a wider dtype")
        self._remember()
        self.round += 1
        self._global = {}
        return result

    def broadcast(self, global_state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:  # noqa: ARG002  # for others
        """Return what the server sends to the clients beside the projector, ahead of a round; most rules send nothing.

        Args:
            global_state: tensor name -> the projector that is about to be broadcast.

        Returns:
            Label -> tensor name -> tensor.

        Raises:
            ValueError: the state does not fit what the rule remembers.
        """
        return {}

    def state_dict(self) -> dict[str, Tensor]:
        """Return all that the rule remembers between rounds, as of the last finished one.

        Returns:
            Name -> contiguous tensor, fit for safetensors; resuming from it is bit-identical.
        """
        memory = {"round": torch.tensor(self.round, dtype=torch.int64), **self._memory()}
        return {name: tensor.detach().clone().contiguous() for name, tensor in memory.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take up where another aggregator with the same options left off; an open round is forgotten.

        Args:
            state: what state_dict() returned.

        Raises:
            ValueError: an entry is missing, or is none of this rule's.
        """
        memory = {name: tensor.detach().clone() for name, tensor in state.items()}
        if "round" not in memory:
            raise ValueError("aggregator state: entry 'round' is missing; pass what state_dict() returned")
        finished = int(memory.pop("round"))
        self._recall(memory)
        self.round = finished
        self._global = {}

    def _require_open(self, call: str) -> None:
        if not self._global:
            raise RuntimeError(f"{call}() outside a round: call begin() first")

    def _exact(self, name: str, tensor: Tensor) -> Tensor:
        """Return a client's tensor in float64 on the global one's device."""
        return tensor.detach().to(device=self._global[name].device, dtype=torch.float64)

    def _deltas(self, update: ClientUpdate) -> dict[str, Tensor]:
        """Return client minus global, tensor by tensor, in float64."""
        deltas = zeros_like(self._global)
        for name, whole in deltas.items():
            for delta, stretch in self._delta_blocks(name, update, whole):
                stretch.copy_(delta)
        return deltas

    def _delta_blocks(self, name: str, update: ClientUpdate, *others: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """Yield stretches of client minus global, fresh and in float64, with the same stretches of other tensors."""
        start = self._global[name]
        theirs = update.state[name].detach().to(start.device)
        for theirs_block, start_block, *other_blocks in blocks(theirs, start, *others):
            yield theirs_block.to(torch.float64, copy=True).sub_(start_block), *other_blocks

    def _moved(self, name: str, step: Tensor) -> Tensor:
        """Return global plus step, summed in float64, as a fresh tensor of the global one's dtype."""
        start = self._global[name]
        moved = torch.empty(start.shape, dtype=start.dtype, device=start.device)
        for moved_block, start_block, step_block in blocks(moved, start, step):
            moved_block.copy_(start_block.to(torch.float64) + step_block)
        return moved

    @abstractmethod
    def _begin(self, global_state: dict[str, Tensor]) -> None:
        """Reset the running sums; raise ValueError if the state does not fit what is remembered."""

    @abstractmethod
    def _add(self, place: str, update: ClientUpdate) -> None:
        """Fold a checked update in; raise ValueError, starting with `place`, before anything is changed."""

    @abstractmethod
    def _merge(self) -> dict[str, Tensor]:
        """Return the next global state, and set last_weights and last_diagnostics; memory and sums stay.

        The tensors are float64, or fresh ones of the global state's own dtype.
        """

    def _remember(self) -> None:  # noqa: B027  # most rules remember nothing
        """Move what the next round needs into memory; called once the result is known to be good."""

    def _memory(self) -> dict[str, Tensor]:
        """Return what is remembered between rounds."""
        return {}

    def _recall(self, memory: dict[str, Tensor]) -> None:
        """Replace what is remembered, all or nothing."""
        if memory:
            raise ValueError(f"aggregator state: entry {next(iter(memory))!r} is not this method's")


def zeros_like(state: Mapping[str, Tensor], dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """Return contiguous zeros by tensor name, shaped and placed as in `state`, for running sums."""
    return {name: torch.zeros(tensor.shape, dtype=dtype, device=tensor.device) for name, tensor in state.items()}


def _settled(merged: Tensor, start: Tensor) -> Tensor:
    """Return a merged tensor with the dtype and device of the global one, sharing nothing with the rule's memory."""
    # what a rule remembers is float64, so only that could be shared
    if merged.dtype == start.dtype != torch.float64 and merged.device == start.device and merged.is_contiguous():
        return merged
    return torch.empty(start.shape, dtype=start.dtype, device=start.device).copy_(merged)
