"""How jobs and results travel between a run and its workers: one JSON header and one safetensors body a frame.

4 bytes length of the header, 8 bytes length of the body (little endian), header, body
"""

import json
import struct
from typing import IO, Any

from safetensors.torch import load, save
from torch import Tensor

_LENGTHS = struct.Struct("<IQ")


def write_frame(stream: IO[bytes], header: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Send one frame."""
    head = json.dumps(header).encode()
    body = save(apart(tensors)) if tensors else b""
    stream.write(_LENGTHS.pack(len(head), len(body)))
    stream.write(head)
    stream.write(body)
    stream.flush()


def apart(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors contiguous, and each in memory of its own, as safetensors demands: clients may share one."""
    out: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        whole = tensor.contiguous()
        memory = whole.untyped_storage().data_ptr()
        out[name] = whole.clone() if memory in seen else whole
        seen.add(memory)
    return out


def read_frame(stream: IO[bytes]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Receive one frame.

    Raises:
        EOFError: the other side has gone.
    """
    head_length, body_length = _LENGTHS.unpack(_exactly(stream, _LENGTHS.size))
    header: dict[str, Any] = json.loads(_exactly(stream, head_length))
    body = _exactly(stream, body_length)
    return header, load(body) if body else {}


def _exactly(stream: IO[bytes], count: int) -> bytes:
    data = stream.read(count)
    if len(data) < count:
        raise EOFError("the other side has gone")
    return data


def under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors of one part of a frame ("projector.", "optimizer.", ...), its prefix removed from their names."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
