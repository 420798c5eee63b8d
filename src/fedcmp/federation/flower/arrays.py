"""Named tensors as Flower's ArrayRecords and back, bit for bit, bfloat16 as well.

NumPy has no bfloat16, so Flower's own conversion refuses it. Here such a tensor travels as its two bytes per number
under a serialisation type of its own: `Array.numpy()` of somebody else's code then refuses it, where uint16 under
Flower's type would be read as other numbers.

What arrives is read without trust: an array's bytes must be as many as its shape and type say before memory is taken
for them, and nothing is ever unpickled.
"""

import math
from collections.abc import Mapping
from io import BytesIO

import numpy as np
import torch
from flwr.app import Array, ArrayRecord
from numpy.typing import NDArray
from torch import Tensor

from fedcmp.terminal import shortened, shown

BFLOAT16 = "fedcmp.bfloat16"  # serialisation type: little-endian, in the order of C
_NUMPY = "numpy.ndarray"  # Flower's
_MOST_HEADER = 1024  # bytes; a tensor's header has about 120


def array_record(tensors: Mapping[str, Tensor]) -> ArrayRecord:
    """Return tensors as an ArrayRecord.

    Args:
        tensors: name -> tensor of any dtype and device, for example a model's state_dict().

    Returns:
        A record from which `tensors_of` makes the same tensors, bit for bit.
    """
    return ArrayRecord({name: _array(tensor.detach().cpu()) for name, tensor in tensors.items()})


def tensors_of(record: Mapping[str, Array]) -> dict[str, Tensor]:
    """Return the tensors of an ArrayRecord.

    Args:
        record: of `array_record`, or of Flower's own `ArrayRecord(model.state_dict())`.

    Returns:
        Name -> tensor on the CPU, in memory of its own.

    Raises:
        ValueError: names the tensor whose bytes are not what its shape and type say.
    """
    return {name: _tensor(name, array) for name, array in record.items()}


def _array(tensor: Tensor) -> Array:
    if tensor.dtype != torch.bfloat16:
        return Array(tensor.numpy())
    data = tensor.contiguous().view(torch.int16).numpy().astype("<i2", copy=False).tobytes()
    return Array(dtype="bfloat16", shape=tuple(tensor.shape), stype=BFLOAT16, data=data)


def _tensor(name: str, array: Array) -> Tensor:
    try:
        if array.stype == BFLOAT16:
            numbers = np.frombuffer(array.data, "<i2").astype(np.int16).reshape(_sizes(array))
            return torch.from_numpy(numbers).view(torch.bfloat16)
        if array.stype == _NUMPY:
            return torch.from_numpy(_from_npy(array))
    except Exception as error:  # the parser of hostile bytes raises what it likes
        raise ValueError(shortened(shown(f"{name} cannot be read ({error})"))) from error
    raise ValueError(shortened(shown(f"{name} is serialised as {array.stype!r}; fedcmp reads {_NUMPY!r}")))


def _from_npy(array: Array) -> NDArray[np.generic]:
    stream = BytesIO(array.data)
    version = np.lib.format.read_magic(stream)
    if version != (1, 0):
        raise ValueError(f"format {version} of NumPy; tensors come in (1, 0)")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream, max_header_size=_MOST_HEADER)
    if shape != _sizes(array) or str(dtype) != array.dtype:
        raise ValueError(f"it says {array.dtype} {tuple(array.shape)} and holds {dtype} {shape}")
    if dtype.hasobject or math.prod(shape) * dtype.itemsize != len(array.data) - stream.tell():
        raise ValueError(f"{len(array.data) - stream.tell()} bytes are no {dtype} of shape {shape}")
    numbers = np.frombuffer(array.data, dtype, offset=stream.tell()).reshape(shape, order="F" if fortran else "C")
    return numbers.astype(dtype.newbyteorder("="), order="C", copy=True)


def _sizes(array: Array) -> tuple[int, ...]:
    sizes = tuple(array.shape)
    if any(size < 0 for size in sizes):
        raise ValueError(f"shape {sizes}")
    return sizes
