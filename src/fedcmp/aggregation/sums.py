"""The clients' mean update by running sums, with one weight per client and, if wanted, one per parameter.

Per client:      D = sum_k a_k Delta_k,                       a_k = s_k / sum_j s_j        (0 when every s_k is 0)
Per parameter:   D = sum_k a_k F_k Delta_k / sum_k a_k F_k,   F_k = v_k^p + damping * mean_entries(sum_j a_j v_j^p)

F_k's second part is the same for every client, so three sums are enough: s Delta, s v^p and s v^p Delta.
Normalised, v_k^p is divided by its own mean over the tensor's entries first: a client says which parameters it used
more than others, not how loud it is, and its weights over all parameters come to a_k, whatever it reports.
Implements docs/methods.md, FedAvg, and reliability per parameter.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from fedcmp.aggregation.blocks import blocks
from fedcmp.aggregation.change import zeros_like


class MeanUpdate:
    """The sums that a mean update needs, and what they come to. It holds no sums itself.

    Args:
        exponent: p above, or None for one weight per client.
        damping: how much of the mean of v^p is added to every parameter's weight.
        normalise: whether each client's v^p is divided by its mean over the tensor's entries.
    """

    def __init__(self, *, exponent: float | None = None, damping: float = 0.0, normalise: bool = False) -> None:
        self._exponent = exponent
        self._normalise = normalise
        self._damping = damping

    def zeros(self, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the empty sums.

        Args:
            like: tensor name -> tensor whose shape and device the sums take.

        Returns:
            "delta.name" -> zeros, float64; with an exponent also "power.name" and "powered_delta.name".
        """
        labels = ("delta",) if self._exponent is None else ("delta", "power", "powered_delta")
        return {name: tensor for label in labels for name, tensor in labelled(label, zeros_like(like)).items()}

    def add(
        self,
        sums: Mapping[str, Tensor],
        deltas: Mapping[str, Tensor],
        *,
        weight: float,
        moments: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Fold one client into the sums, in place.

        Args:
            sums: as from zeros().
            deltas: tensor name -> client minus global, float64.
            weight: s_k >= 0; with 0 the client adds nothing.
            moments: tensor name -> v_k >= 0, float64; needed with an exponent.
        """
        if weight == 0:
            return
        for name, delta in deltas.items():
            sums[f"delta.{name}"].add_(delta, alpha=weight)
            if self._exponent is not None and moments is not None:
                power = moments[name].pow(self._exponent)
                if self._normalise:
                    power /= power.mean().clamp(min=torch.finfo(power.dtype).tiny)
                sums[f"power.{name}"].add_(power, alpha=weight)
                sums[f"powered_delta.{name}"].addcmul_(power, delta, value=weight)

    def finish(self, sums: Mapping[str, Tensor], *, total: float) -> dict[str, Tensor]:
        """Return the mean update.

        Args:
            sums: over all clients.
            total: sum_k s_k, above 0.

        Returns:
            Tensor name -> D, float64. Where a parameter has no weight from anybody, the mean by a_k.
        """
        means = {name: delta_sum / total for name, delta_sum in of_label("delta", sums).items()}
        if self._exponent is None:
            return means
        for name, mean in means.items():
            power = sums[f"power.{name}"] / total
            shared = self._damping * power.mean()
            weight = power + shared
            weighted = (sums[f"powered_delta.{name}"] / total + shared * mean) / weight
            means[name] = torch.where(weight > 0, weighted, mean)
        return means


def labelled(label: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return "label.name" -> tensor, the form in which sums of several kinds are kept together."""
    return {f"{label}.{name}": tensor for name, tensor in tensors.items()}


def of_label(label: str, sums: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return name -> tensor of one label, the reverse of `labelled`; the tensors themselves, not copies."""
    start = f"{label}."
    return {name.removeprefix(start): tensor for name, tensor in sums.items() if name.startswith(start)}


def add_exactly(total: Tensor, rest: Tensor, value: Tensor) -> None:
    """Add a tensor to a sum of two parts, in place: total + rest is the sum without the rounding of its additions.

    Each entry by Knuth's two-sum: what total + value loses is known exactly, and goes to `rest`. In whatever order
    values came, total + rest rounds to the same bits, but for a chance of about 1e-16 an entry.

    Args:
        total: the sum as plain additions have it, float64, contiguous.
        rest: what they have lost so far, likewise.
        value: what is added, float64.
    """
    for sum_block, rest_block, value_block in blocks(total, rest, value):
        added = sum_block + value_block
        share = added - sum_block  # of value, in `added`
        rest_block += (sum_block - (added - share)) + (value_block - share)
        sum_block.copy_(added)
