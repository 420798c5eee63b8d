"""FedAvg: the mean of the clients' tensors, weighted by sample counts.

theta = theta_g + sum_k (n_k / n) (theta_k - theta_g) = sum_k (n_k / n) theta_k        (docs/methods.md, FedAvg)
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from fedcmp.aggregation.registry import register
from fedcmp.aggregation.sum_rule import SumRule
from fedcmp.aggregation.sums import MeanUpdate
from fedcmp.aggregation.update import ClientUpdate, Public


@register(
    "fedavg",
    summary="mean of the clients' tensors, weighted by sample counts",
    paper="McMahan et al. 2017, arXiv 1602.05629",
)
class FedAvg(SumRule):
    """Sample-weighted mean. It has no options and remembers nothing but the round's number."""

    def __init__(self) -> None:
        super().__init__()
        self._mean = MeanUpdate()

    def _zeros(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return self._mean.zeros(state)

    def _fold(
        self,
        place: str,  # noqa: ARG002  # nothing left to refuse
        update: ClientUpdate,
        public: Public,
        sums: Mapping[str, Tensor],
    ) -> dict[str, float]:
        weight = float(int(update.num_examples))
        self._mean.add(sums, self._change(update, public).whole(), weight=weight)
        return {"weight": weight}

    def _merge(self) -> dict[str, Tensor]:
        self.last_weights = self._shares()
        self.last_diagnostics = {}
        mean = self._mean.finish(self._sums, total=self._total_weight())
        return {name: tensor.to(torch.float64) + mean[name] for name, tensor in self._global.items()}
