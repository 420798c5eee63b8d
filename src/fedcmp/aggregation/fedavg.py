"""FedAvg: the mean of the clients' projectors, weighted by sample counts.

theta = theta_g + sum_k (n_k / n) (theta_k - theta_g) = sum_k (n_k / n) theta_k        (docs/methods.md, FedAvg)
"""

import torch
from torch import Tensor

from fedcmp.aggregation.base import Aggregator, ClientUpdate
from fedcmp.aggregation.registry import register
from fedcmp.aggregation.sums import MeanUpdate


@register(
    "fedavg",
    summary="mean of the clients' projectors, weighted by sample counts",
    paper="McMahan et al. 2017, arXiv 1602.05629",
)
class FedAvg(Aggregator):
    """Sample-weighted mean. It has no options and remembers nothing but the round's number."""

    def _begin(self, global_state: dict[str, Tensor]) -> None:
        self._sums = MeanUpdate(global_state)

    def _add(self, place: str, update: ClientUpdate) -> None:  # noqa: ARG002  # nothing left to refuse
        count = int(update.num_examples)
        self._sums.add(self._deltas(update), score=float(count), count=count)

    def _merge(self) -> dict[str, Tensor]:
        self.last_weights = self._sums.shares()
        self.last_diagnostics = {}
        mean = self._sums.finish()
        return {name: tensor.to(torch.float64) + mean[name] for name, tensor in self._global.items()}
