"""Model Stock: the mean of the clients, drawn back to the global tensors the less they agree.

    cos = mean over pairs i != j of cos(Delta_i, Delta_j) = (||sum_k u_k||^2 - sum_k ||u_k||^2) / (K (K - 1))
    t = K cos / (1 + (K - 1) cos),    theta = t mean_k theta_k + (1 - t) theta_g = theta_g + t mean_k Delta_k
tensor by tensor, with u_k = Delta_k / ||Delta_k||, and 0 for a client that did not move.  Below 0, where the formula
leads away from the clients, cos counts as 0: the tensor stays.  One client has nobody to disagree with: t = 1.
A client adds Delta_k, u_k and ||u_k||^2 to the sums, so the pairs need not be seen.
Implements docs/methods.md, Model Stock (Jang et al. 2024).
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from fedcmp.aggregation.change import moved, zeros_like
from fedcmp.aggregation.registry import register
from fedcmp.aggregation.sum_rule import SumRule
from fedcmp.aggregation.sums import labelled
from fedcmp.aggregation.update import ClientUpdate, Public


@register("model-stock", summary="mean drawn back by the clients' angles", paper="Jang et al. 2024, arXiv 2403.19522")
class ModelStock(SumRule):
    """Interpolation by angles; every client counts the same. It has no options and remembers nothing."""

    def __init__(self) -> None:
        super().__init__()

    def _zeros(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        squares = {name: torch.zeros((), dtype=torch.float64, device=tensor.device) for name, tensor in state.items()}
        return labelled("delta", zeros_like(state)) | labelled("unit", zeros_like(state)) | labelled("square", squares)

    def _fold(
        self,
        place: str,  # noqa: ARG002  # nothing left to refuse
        update: ClientUpdate,
        public: Public,
        sums: Mapping[str, Tensor],
    ) -> dict[str, float]:
        for name, delta in self._change(update, public).whole().items():
            length = float(delta.norm())
            sums[f"delta.{name}"].add_(delta)
            if length > 0:
                sums[f"unit.{name}"].add_(delta / length)
                sums[f"square.{name}"].add_(1.0)
        return {"weight": 1.0}

    def _merge(self) -> dict[str, Tensor]:
        self.last_weights = self._shares()
        self.last_diagnostics = {}
        merged = {}
        for name in self._global:
            ratio = self._ratio(name)
            merged[name] = moved(self._global[name], self._sums[f"delta.{name}"] * (ratio / self._accepted))
            self.last_diagnostics[f"ratio.{name}"] = ratio
        return merged

    def _ratio(self, name: str) -> float:
        """Return t of one tensor, in [0, 1]."""
        clients = self._accepted
        if clients == 1:
            return 1.0
        agreeing = float(self._sums[f"unit.{name}"].square().sum() - self._sums[f"square.{name}"])
        cosine = min(max(agreeing / (clients * (clients - 1)), 0.0), 1.0)
        return clients * cosine / (1 + (clients - 1) * cosine)
