"""The one frame format between processes: a JSON header and named tensors, as safetensors.

4 bytes length of the header, 8 bytes length of the body (little endian), header, body

Raw bytes, such as image files, travel as uint8 tensors.
"""

import json
import struct
from typing import IO, Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

Header = dict[str, Any]
Tensors = dict[str, Tensor]
Frame = tuple[Header, Tensors]
MOST_HEADER_BYTES = 2**28
MOST_BODY_BYTES = 2**38
_LENGTHS = struct.Struct("<IQ")
_PIECE = 2**26  # bytes that are read at once: memory is taken as bytes arrive, whatever a length claims


def write_frame(stream: IO[bytes], header: Header, tensors: Tensors) -> None:
    """Send one frame.

    Raises:
        BrokenPipeError: the other side has gone.
        ValueError: the header is too long for a frame.
    """
    head = json.dumps(header).encode()
    if len(head) > MOST_HEADER_BYTES:
        raise ValueError(f"a frame's header of {len(head):,} bytes: at most {MOST_HEADER_BYTES:,} can be sent")
    body = save(apart(tensors)) if tensors else b""
    stream.write(_LENGTHS.pack(len(head), len(body)))
    stream.write(head)
    stream.write(body)
    stream.flush()


def apart(tensors: Tensors) -> Tensors:
    """Return the tensors contiguous, and each in memory of its own, as safetensors demands: clients may share one."""
    out: Tensors = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        whole = tensor.contiguous()
        memory = whole.untyped_storage().data_ptr()
        out[name] = whole.clone() if memory in seen else whole
        seen.add(memory)
    return out


def read_frame(stream: IO[bytes]) -> Frame:
    """Receive one frame.

    Raises:
        EOFError: the other side has gone.
        ValueError: the bytes are not a frame.
    """
    head_length, body_length = _LENGTHS.unpack(_exactly(stream, _LENGTHS.size))
    if head_length > MOST_HEADER_BYTES or body_length > MOST_BODY_BYTES:
        raise ValueError(
            f"malformed frame: it claims a header of {head_length:,} bytes (at most {MOST_HEADER_BYTES:,}) "
            f"and a body of {body_length:,} (at most {MOST_BODY_BYTES:,})"
        )
    header = _header(_exactly(stream, head_length))
    body = _exactly(stream, body_length)
    try:
        return header, load(body) if body else {}
    except (SafetensorError, ValueError, KeyError, RuntimeError, TypeError) as error:
        raise ValueError(f"malformed frame: its body is not named tensors ({error})") from error


def _header(text: bytes) -> Header:
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"malformed frame: its header is not JSON ({error})") from error
    if not isinstance(header, dict):
        raise ValueError(f"malformed frame: its header is a JSON {type(header).__name__}; it must be an object")
    return header


def _exactly(stream: IO[bytes], count: int) -> bytes:
    pieces: list[bytes] = []
    while count > 0:
        piece = stream.read(min(count, _PIECE))
        if not piece:
            raise EOFError("the other side has gone")
        pieces.append(piece)
        count -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def under(tensors: Tensors, prefix: str) -> Tensors:
    """The tensors of one part of a frame ("projector.", "optimizer.", ...), its prefix removed from their names."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
