"""What an aggregator refuses: every message names the client's index, the tensor, and what is wrong there.

A check only reads. It comes before anything is folded in, so a refused update leaves the sums as they were.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

MOST_EXAMPLES = 2**53  # whole numbers up to here are exact in float64
# Float32's range: a projector has no honest number beyond it, and within it no float64 sum of ours overflows.
LARGEST = torch.finfo(torch.float32).max


def check_global_state(global_state: Mapping[str, Tensor]) -> None:
    """Refuse a round's starting point that is empty or not finite.

    Args:
        global_state: tensor name -> tensor of any shape and floating dtype.

    Raises:
        ValueError: no tensors, a tensor that is not floating point, NaN, infinity or a number beyond float32's range.
    """
    if not global_state:
        raise ValueError("global state: holds no tensors; pass the projector's state_dict()")
    for name, tensor in global_state.items():
        check_values("global state", name, tensor)


def check_tensors(place: str, tensors: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> None:
    """Refuse tensors that do not match the global ones in name, shape or sanity.

    Args:
        place: what the message starts with, for example "client 3".
        tensors: tensor name -> tensor.
        like: the global state, which says the names and shapes.

    Raises:
        ValueError: a missing or extra tensor, another shape, NaN, infinity, a number beyond float32's range.
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
        check_values(place, name, tensor)


def check_values(place: str, name: str, tensor: Tensor) -> None:
    """Refuse a tensor that is not dense floating point or holds NaN, infinity or numbers beyond float32's range.

    Args:
        place: what the message starts with.
        name: the tensor's name.
        tensor: any shape.

    Raises:
        ValueError: as above, with the count of bad values.
    """
    if not isinstance(tensor, Tensor) or tensor.layout != torch.strided or not tensor.is_floating_point():
        found = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
        raise ValueError(f"{place}: {name} is {found}; it must be a dense floating point tensor")
    if tensor.numel() == 0:
        return
    smallest, largest = (float(edge) for edge in torch.aminmax(tensor.detach()))
    if smallest >= -LARGEST and largest <= LARGEST:  # false for NaN as well
        return
    bad = int((~torch.isfinite(tensor)).sum())
    if bad:
        raise ValueError(f"{place}: {name} holds {bad} NaN or infinite values")
    raise ValueError(f"{place}: {name} holds numbers beyond float32's range (up to {max(-smallest, largest):.1e})")


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
