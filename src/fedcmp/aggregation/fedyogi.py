"""FedYogi: FedAdam with a second moment that changes by at most (1 - b2) D^2 a round.

    v = v - (1 - b2) D^2 sign(v - D^2)          v = tau^2 at first; all else as in fedadam.py
Implements docs/methods.md, FedYogi (Reddi et al. 2021, Algorithm 2).
"""

from torch import Tensor

from fedcmp.aggregation.fedadam import FedAdam
from fedcmp.aggregation.registry import register


@register("fedyogi", summary="Yogi on the mean update", paper="Reddi et al. 2021, arXiv 2003.00295")
class FedYogi(FedAdam):
    """Server Yogi; options as in FedAdam."""

    def _track(self, second: Tensor, square: Tensor) -> None:
        second.sub_((second - square).sign_().mul_(square), alpha=1 - self._beta_2)
