"""SCAFFOLD: control variates take out of each gradient what is the client's own drift.

    g <- g - c_k + c          before clipping and AdamW; c from the server, c_k kept by the client, zeros at first
    c_k <- mean gradient over the round's part at theta_g                      (Karimireddy et al. 2020, option I)
Option II derives c_k from the distance travelled and assumes plain SGD steps, which AdamW's are not. Option I costs one
more pass over the part. The client sends the change of c_k; the server's half is the aggregator "scaffold".
"""

from torch import Tensor

from fedcmp.client.cohort import Stacked
from fedcmp.client.local_round import LocalRound
from fedcmp.client.objectives.base import Objective
from fedcmp.client.objectives.registry import register_objective

_OWN, _GLOBAL, _CHANGE = "control", "control", "control_change"


@register_objective(
    "scaffold", summary="control variates against client drift", paper="Karimireddy et al. 2020, arXiv 1910.06378"
)
class Scaffold(Objective):
    """Control variates, option I."""

    def __init__(self) -> None:
        self._shift: Stacked = {}

    def begin(self, local: LocalRound) -> None:
        """Work out the correction and the new control variate."""
        sent = local.stacked_broadcast(_GLOBAL)
        zeros = {name: tensor * 0 for name, tensor in local.cohort.starts.items()}
        before = local.memory.get(_OWN, zeros)
        self._shift = {name: sent[name] - before[name] for name in before}
        after = local.gradient_at_start()
        local.extras[_CHANGE] = {name: after[name] - before[name] for name in before}
        local.memory[_OWN] = after

    def part_state(self) -> Stacked:
        """The correction of every gradient of the round."""
        return self._shift

    def load_part_state(self, saved: Stacked) -> None:
        """Take it up: the pass for the new control variate is not made again."""
        self._shift = dict(saved)

    def correct(self, local: LocalRound, gradients: Stacked, learners_A: Tensor) -> None:
        """g + c - c_k."""
        del local
        for name, gradient in gradients.items():
            gradient += self._shift[name][learners_A]
