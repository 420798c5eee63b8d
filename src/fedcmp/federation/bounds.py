"""What a server takes from a client: no tensor whose squares add up to more than float32 holds.

A rule may square what it is sent, and what it merges is float32 again. One update of finite but huge numbers would end
the round when it is closed, with nobody named; here its client is.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from fedcmp.aggregation import ClientUpdate

LARGEST_NORM = math.sqrt(torch.finfo(torch.float32).max)


def check_bounds(update: ClientUpdate, before: Mapping[str, Tensor]) -> float:
    """Refuse an update with a tensor whose norm is beyond LARGEST_NORM.

    What is no number at all, or of a wrong shape, is left to the rule: it says more about it.

    Args:
        update: what a client sent, decoded.
        before: the tensors that it started from.

    Returns:
        The norm of the whole update.

    Raises:
        ValueError: names the tensor and its norm.
    """
    changes = {
        name: tensor - before[name].to(tensor)
        for name, tensor in update.state.items()
        if name in before and tensor.shape == before[name].shape and tensor.is_floating_point()
    }
    named = [*changes.items(), *((f"second moment of {name}", t) for name, t in (update.second_moment or {}).items())]
    named += [(f"{label} of {name}", t) for label, own in (update.extra or {}).items() for name, t in own.items()]
    for name, tensor in named:
        norm = _norm(tensor)
        if LARGEST_NORM < norm < math.inf:
            raise ValueError(
                f"{name} has the norm {norm:.3g}; at most {LARGEST_NORM:.2g} is taken, whose square float32 still holds"
            )
    return math.hypot(*map(_norm, changes.values()))


def _norm(tensor: Tensor) -> float:
    if not tensor.is_floating_point():  # the rule refuses it
        return 0.0
    return float(torch.linalg.vector_norm(tensor.detach(), dtype=torch.float64))
