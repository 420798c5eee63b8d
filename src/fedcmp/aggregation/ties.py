"""TIES merging: trim each client's update, elect a sign for each entry, average what agrees with it.

    theta = theta_g + lambda TIES(Delta_1, ..., Delta_K)          over all tensors as one vector; voting.py
Implements docs/methods.md, TIES (Yadav et al. 2023).
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from fedcmp.aggregation.change import moved
from fedcmp.aggregation.options import require_number
from fedcmp.aggregation.registry import register
from fedcmp.aggregation.sum_rule import SumRule
from fedcmp.aggregation.update import ClientUpdate, Public
from fedcmp.aggregation.voting import SignVote


@register("ties", summary="trim, elect signs, average what agrees", paper="Yadav et al. 2023, arXiv 2306.01708")
class Ties(SumRule):
    """TIES on the updates; every client counts the same. A sum in one exchange: four sums for each entry.

    Args:
        density: share of a client's entries kept by magnitude, in (0, 1].
        scale: lambda above 0.

    Raises:
        ValueError: an option out of range.
    """

    def __init__(self, *, density: float = 0.2, scale: float = 1.0) -> None:
        require_number("density", density, 0, 1, above=True)
        require_number("scale", scale, 0, 1e6, above=True)
        super().__init__()
        self._vote = SignVote(density=density)
        self._scale = scale
        self._room: dict[str, Tensor] = {}  # one client's change, filled anew by each

    def _zeros(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return self._vote.zeros(state)

    def _fold(
        self,
        place: str,  # noqa: ARG002  # nothing left to refuse
        update: ClientUpdate,
        public: Public,
        sums: Mapping[str, Tensor],
    ) -> dict[str, float]:
        change = self._change(update, public)
        rounded = self._room_for(public.state)
        for name, whole in rounded.items():
            for delta, stretch in change.blocks(name, whole):
                stretch.copy_(delta)
        self._vote.add(sums, rounded)
        return {"weight": 1.0}

    def _room_for(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return room for one client's change, as exact as the global tensors but for half precision."""
        dtypes = {name: torch.promote_types(start.dtype, torch.float32) for name, start in state.items()}
        wanted = [(name, start.shape, dtypes[name], start.device) for name, start in state.items()]
        if wanted != [(name, room.shape, room.dtype, room.device) for name, room in self._room.items()]:
            self._room = {name: torch.empty(shape, dtype=dtype, device=d) for name, shape, dtype, d in wanted}
        return self._room

    def _merge(self) -> dict[str, Tensor]:
        self.last_weights = self._shares()
        self.last_diagnostics = {}
        return {
            name: moved(self._global[name], self._vote.elect(self._sums, name).mul_(self._scale))
            for name in self._global
        }
