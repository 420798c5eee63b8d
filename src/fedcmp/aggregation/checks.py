"""What an aggregator refuses: every message names the client's index, the tensor, and what is wrong there.

A check only reads. It comes before anything is folded in, so a refused update leaves the sums as they were.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from fedcmp.aggregation.update import ClientUpdate

MOST_EXAMPLES = 2**53  # whole numbers up to here are exact in float64
# Float32's range: a model has no honest number beyond it, and within it no float64 sum of ours overflows.
LARGEST = torch.finfo(torch.float32).max


def check_global_state(global_state: Mapping[str, Tensor]) -> None:
    """Refuse a round's starting point that is empty or not finite.

    Args:
        global_state: tensor name -> tensor of any shape and floating dtype.

    Raises:
        ValueError: no tensors, a tensor that is not floating point, NaN, infinity or a number beyond float32's range.
    """
    if not global_state:
        raise ValueError("global state: holds no tensors; pass the trained tensors, for example a state_dict()")
    for name, tensor in global_state.items():
        check_values("global state", name, tensor)


def check_update(place: str, update: ClientUpdate, like: Mapping[str, Tensor]) -> None:
    """Refuse an update whose tensors do not match the global ones, or whose numbers are out of range.

    Args:
        place: what the message starts with, for example "client 3".
        update: the client's update; fields that only some rules need are left to these.
        like: the global state, which says the names and shapes.

    Raises:
        ValueError: as in check_tensors, check_num_examples and check_alignment_error.
    """
    check_tensors(place, update.state, like)
    check_num_examples(place, update.num_examples)
    check_alignment_error(place, update.alignment_error)


def check_tensors(
    place: str, tensors: Mapping[str, Tensor], like: Mapping[str, Tensor], *, largest: float = LARGEST
) -> None:
    """Refuse tensors that do not match given ones in name, shape or sanity.

    Args:
        place: what the message starts with, for example "client 3".
        tensors: tensor name -> tensor.
        like: name -> tensor, for example the global state: it says the names and shapes.
        largest: the largest magnitude allowed.

    Raises:
        ValueError: a missing or extra tensor, another shape, NaN, infinity, a number beyond the largest.
    """
    for name in like:
        if name not in tensors:
            raise ValueError(f"{place}: tensor {name} is missing; the round needs {', '.join(like)}")
    for name, tensor in tensors.items():
        if name not in like:
            raise ValueError(f"{place}: extra tensor {name}; the round knows only {', '.join(like)}")
        if isinstance(tensor, Tensor) and tensor.shape != like[name].shape:
            expected = tuple(like[name].shape)
            raise ValueError(f"{place}: {name} has shape {tuple(tensor.shape)}; the global one has {expected}")
        check_values(place, name, tensor, largest=largest)


def check_values(place: str, name: str, tensor: Tensor, *, largest: float = LARGEST) -> None:
    """Refuse a tensor that is not dense floating point or holds NaN, infinity or numbers out of range.

    Args:
        place: what the message starts with.
        name: the tensor's name.
        tensor: any shape.
        largest: the largest magnitude allowed, by default float32's.

    Raises:
        ValueError: as above, with the count of bad values.
    """
    if not isinstance(tensor, Tensor) or tensor.layout != torch.strided or not tensor.is_floating_point():
        found = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
        raise ValueError(f"{place}: {name} is {found}; it must be a dense floating point tensor")
    if tensor.numel() == 0:
        return
    low, high = (float(edge) for edge in torch.aminmax(tensor.detach()))
    if low >= -largest and high <= largest:  # false for NaN as well
        return
    bad = int((~torch.isfinite(tensor)).sum())
    if bad:
        raise ValueError(f"{place}: {name} holds {bad} NaN or infinite values")
    raise ValueError(f"{place}: {name} holds numbers beyond float32's range (up to {max(-low, high):.1e})")


def check_num_examples(place: str, num_examples: object) -> None:
    """Refuse a sample count that is not a whole number from 1 to 2**53.

    Args:
        place: what the message starts with.
        num_examples: the count that the client reports.

    Raises:
        ValueError: not an int, or outside.
    """
    if isinstance(num_examples, bool) or not hasattr(num_examples, "__index__"):
        raise ValueError(f"{place}: num_examples = {num_examples!r}: must be a whole number")
    if not 1 <= num_examples.__index__() <= MOST_EXAMPLES:
        raise ValueError(f"{place}: num_examples = {num_examples!r}: must be at least 1 and at most 2**53")


def check_alignment_error(
    place: str, alignment_error: float, *, low: float = -math.inf, high: float = math.inf
) -> None:
    """Refuse an alignment error that is not a finite number in [low, high], up to rounding.

    Args:
        place: what the message starts with.
        alignment_error: what the client reports.
        low: smallest value allowed.
        high: largest value allowed.

    Raises:
        ValueError: as above.
    """
    slack = 1e-3  # a cosine computed in bfloat16 may pass 1 by as much
    if not math.isfinite(alignment_error) or not low - slack <= alignment_error <= high + slack:
        allowed = f"lie in [{low:g}, {high:g}] (it is 1 - cosine)" if math.isfinite(low) else "be a finite number"
        raise ValueError(f"{place}: alignment_error = {alignment_error!r}: must {allowed}")
