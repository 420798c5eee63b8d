"""The clients' mean update by running sums, with one weight per client and, if wanted, one per parameter.

Per client:      D = sum_k a_k Delta_k,                       a_k = s_k / sum_j s_j        (n_k / n when every s_k is 0)
Per parameter:   D = sum_k a_k F_k Delta_k / sum_k a_k F_k,   F_k = v_k^p + damping * mean_entries(sum_j a_j v_j^p)

F_k's second part is the same for every client, so three sums are enough: s Delta, s v^p and s v^p Delta.
Implements docs/methods.md, FedAvg, and Fed-CMP's reliability per parameter.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor


class MeanUpdate:
    """Running sums over the clients of one round.

    Args:
        shapes_like: tensor name -> tensor whose shape and device the sums take (the global state).
        exponent: p above, or None for one weight per client.
        damping: how much of the mean of v^p is added to every parameter's weight.
    """

    def __init__(self, shapes_like: Mapping[str, Tensor], *, exponent: float | None = None, damping: float = 0.0):
        self._exponent = exponent
        self._damping = damping
        self._scores: list[float] = []
        self._counts: list[int] = []
        self._deltas = _zeros(shapes_like)
        self._powers = _zeros(shapes_like) if exponent is not None else {}
        self._powered_deltas = _zeros(shapes_like) if exponent is not None else {}

    def add(
        self, deltas: Mapping[str, Tensor], *, score: float, count: int, moments: Mapping[str, Tensor] | None = None
    ) -> None:
        """Fold one client in.

        Args:
            deltas: tensor name -> client minus global, float64.
            score: s_k >= 0, its unnormalised reliability.
            count: n_k, its weight as long as nobody has a score above 0.
            moments: tensor name -> v_k >= 0, float64; needed with an exponent.
        """
        if score > 0 and not any(self._scores):
            self._forget()  # those before had weight 0; they were summed by count in case nobody would have more
        self._scores.append(score)
        self._counts.append(count)
        if score == 0 and any(self._scores):
            return
        weight = score if score > 0 else float(count)
        for name, delta in deltas.items():
            self._deltas[name].add_(delta, alpha=weight)
            if self._exponent is not None and moments is not None:
                power = moments[name].pow(self._exponent)
                self._powers[name].add_(power, alpha=weight)
                self._powered_deltas[name].addcmul_(power, delta, value=weight)

    def shares(self) -> list[float]:
        """Return the clients' a_k, summing to 1, in the order of add()."""
        weights = self._weights()
        total = math.fsum(weights)
        return [weight / total for weight in weights]

    def finish(self) -> dict[str, Tensor]:
        """Return the mean update.

        Returns:
            Tensor name -> D, float64. Where a parameter has no weight from anybody, the mean by a_k.
        """
        total = math.fsum(self._weights())
        means = {name: delta_sum / total for name, delta_sum in self._deltas.items()}
        if self._exponent is None:
            return means
        for name, mean in means.items():
            power = self._powers[name] / total
            shared = self._damping * power.mean()
            weight = power + shared
            weighted = (self._powered_deltas[name] / total + shared * mean) / weight
            means[name] = torch.where(weight > 0, weighted, mean)
        return means

    def _weights(self) -> list[float]:
        return self._scores if any(self._scores) else [float(count) for count in self._counts]

    def _forget(self) -> None:
        for sums in (self._deltas, self._powers, self._powered_deltas):
            for tensor in sums.values():
                tensor.zero_()


def _zeros(like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: torch.zeros_like(t, dtype=torch.float64, requires_grad=False) for name, t in like.items()}
