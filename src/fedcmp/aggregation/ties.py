"""TIES merging: trim each client's update, elect a sign for each entry, average what agrees with it.

    theta = theta_g + lambda TIES(Delta_1, ..., Delta_K)          over the whole projector as one vector; voting.py
Implements docs/methods.md, TIES (Yadav et al. 2023).
"""

import torch
from torch import Tensor

from fedcmp.aggregation.base import Aggregator, ClientUpdate
from fedcmp.aggregation.options import require_number
from fedcmp.aggregation.registry import register
from fedcmp.aggregation.voting import SignVote


@register("ties", summary="trim, elect signs, average what agrees", paper="Yadav et al. 2023, arXiv 2306.01708")
class Ties(Aggregator):
    """TIES on the updates; every client counts the same.

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
        self._density = density
        self._scale = scale

    def _begin(self, global_state: dict[str, Tensor]) -> None:
        self._vote = SignVote(global_state, density=self._density)
        self._changes = {}  # one client's, as exact as the projector but for half precision; filled anew by each
        for name, start in global_state.items():
            dtype = torch.promote_types(start.dtype, torch.float32)
            self._changes[name] = torch.empty(start.shape, dtype=dtype, device=start.device)

    def _add(self, place: str, update: ClientUpdate) -> None:  # noqa: ARG002  # nothing left to refuse
        for name, change in self._changes.items():
            for delta, stretch in self._delta_blocks(name, update, change):
                stretch.copy_(delta)
        self._vote.add(self._changes)

    def _merge(self) -> dict[str, Tensor]:
        self.last_weights = [1 / self._accepted] * self._accepted
        self.last_diagnostics = {}
        return {name: self._moved(name, self._vote.elect(name).mul_(self._scale)) for name in self._global}
