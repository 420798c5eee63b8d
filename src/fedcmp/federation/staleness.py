"""What a late update still counts for, and how it is read by a server whose model has moved on.

    s(tau)  = (1 + tau)^-a                         a = 1/2: FedBuff's discount (Nguyen et al. 2022, arXiv 2106.06639)
    theta_k = theta_t + s(tau) Delta_k             what the rule is told that client k ended at
    tau     = t - (the version that client k started from),  Delta_k = what it changed in that version
With the weighted mean this is FedBuff's step, theta_t + sum_k n_k s(tau_k) Delta_k / sum_k n_k; any rule that reads
clients relative to the present tensors can stand in the mean's place. Implements docs/asynchrony.md.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch

from fedcmp.aggregation import ClientUpdate
from fedcmp.federation.replies import update_of
from fedcmp.wire.messages import Reply
from fedcmp.wire.naming import Tensors
from fedcmp.wire.payload import decode


def discount(staleness: int, exponent: float) -> float:
    """Return s(tau), 1 for a client that is up to date.

    Args:
        staleness: tau, how many merges the client's version is behind; at least 0.
        exponent: a, at least 0; 0: old updates count in full.
    """
    return float((1 + staleness) ** -exponent)


def late_update(reply: Reply, *, start: Tensors, now: Tensors, share: float) -> ClientUpdate:
    """Return a late client's update as if it had started from the present tensors and changed `share` as much.

    Args:
        reply: what the client sent.
        start: the tensors that it started from, decoded.
        now: the server's tensors; of the same names and shapes.
        share: s(tau) in (0, 1].

    Returns:
        The update, its tensors in float64, so that moving them rounds nothing away. One whose tensors do not fit the
        server's is returned as it was sent: the rule says what is wrong with it.

    Raises:
        ValueError: the encoded update does not fit the server's tensors.
    """
    update = update_of(reply, start)
    if not _fits(update.state, now):
        return update
    if reply.update:
        change = {name: tensor.to(torch.float64) for name, tensor in decode(reply.update).items()}
    else:
        change = {
            name: tensor.to(torch.float64) - start[name].to(torch.float64) for name, tensor in reply.state.items()
        }
    return replace(update, state={name: now[name].to(torch.float64) + share * change[name] for name in update.state})


def _fits(state: Mapping[str, torch.Tensor], now: Mapping[str, torch.Tensor]) -> bool:
    return state.keys() == now.keys() and all(
        tensor.is_floating_point() and tensor.shape == now[name].shape for name, tensor in state.items()
    )
