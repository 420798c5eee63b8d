"""SCAFFOLD, the server's half: FedAvg with a step size, and the sum of the clients' control variates.

    theta = theta_g + eta sum_k (n_k / n) Delta_k
    c     = c + (1 / N) sum_k change_k                 change_k = c_k^new - c_k;  c = 0 at first
N counts all clients of the federation, the sum those of the round.  c is broadcast with the tensors; the clients add
c - c_k to their gradients.  Implements docs/methods.md, SCAFFOLD (Karimireddy et al. 2020, Algorithm 1).
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from fedcmp.aggregation.change import exact, zeros_like
from fedcmp.aggregation.checks import check_tensors
from fedcmp.aggregation.labels import CONTROL, CONTROL_CHANGE
from fedcmp.aggregation.options import require_number
from fedcmp.aggregation.registry import register
from fedcmp.aggregation.server_step import ServerStep
from fedcmp.aggregation.sums import labelled, of_label
from fedcmp.aggregation.update import ClientUpdate, Public

CHANGE = CONTROL_CHANGE  # what the clients send back in `extra`


@register("scaffold", summary="FedAvg with control variates", paper="Karimireddy et al. 2020, arXiv 1910.06378")
class Scaffold(ServerStep):
    """Server's half of SCAFFOLD.

    Args:
        learning_rate: eta above 0, the global step size.
        total_clients: N, all clients of the federation; None: those of each round (everyone takes part).

    Raises:
        ValueError: an option out of range.
    """

    def __init__(self, *, learning_rate: float = 1.0, total_clients: int | None = None) -> None:
        require_number("learning_rate", learning_rate, 0, 1e6, above=True)
        if total_clients is not None and (not isinstance(total_clients, int) or isinstance(total_clients, bool)):
            raise ValueError(f"total_clients = {total_clients!r}: must be a whole number, or none")
        if total_clients is not None:
            require_number("total_clients", total_clients, 1)
        super().__init__({CONTROL: 0.0})
        self.needs, self.extras, self.sends = frozenset({"extra"}), frozenset({CHANGE}), frozenset({CONTROL})
        self._learning_rate = learning_rate
        self._total_clients = total_clients

    def broadcast(self, global_state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """Return {"control": c}, zeros ahead of the first round; see Aggregator.broadcast.

        c has the global tensors' dtypes, in half precision float32.
        """
        self._require_fit(global_state)
        control = self._remembered.get(CONTROL) or zeros_like(global_state)
        sent = {}
        for name, tensor in global_state.items():
            dtype = torch.promote_types(tensor.dtype, torch.float32)
            sent[name] = control[name].to(device=tensor.device, dtype=dtype, copy=True)
        return {CONTROL: sent}

    def _zeros(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return super()._zeros(state) | labelled(CHANGE, zeros_like(state))

    def _admit(self, place: str, clients: int) -> None:
        if self._total_clients is not None and self._accepted + clients > self._total_clients:
            raise ValueError(
                f"{place}: the round has more clients than total_clients = {self._total_clients}; "
                "it counts all clients of the federation"
            )

    def _fold(self, place: str, update: ClientUpdate, public: Public, sums: Mapping[str, Tensor]) -> dict[str, float]:
        change = (update.extra or {}).get(CHANGE)
        if change is None:
            mend = "train with the local objective 'scaffold', which sends it"
            raise ValueError(f"{place}: extra[{CHANGE!r}] is missing; {mend}")
        check_tensors(f"{place}: {CHANGE}", change, public.state)
        scalars = super()._fold(place, update, public, sums)
        for name, total in of_label(CHANGE, sums).items():
            total.add_(exact(change[name], public.state[name]))
        return scalars

    def _step(self, mean: Tensor, *slots: Tensor) -> Tensor:  # noqa: ARG002  # the control variates do not act here
        return mean.mul_(self._learning_rate)

    def _merge(self) -> dict[str, Tensor]:
        merged = super()._merge()
        changes = of_label(CHANGE, self._sums)
        for name, control in self._coming[CONTROL].items():
            control.add_(changes[name], alpha=1 / (self._total_clients or self._accepted))
        return merged
