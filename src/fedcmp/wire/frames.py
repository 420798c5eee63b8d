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
MOST_NAMES_BYTES = 2**26  # of a body's list of tensors: each entry becomes an object of ten times its size
_LENGTHS = struct.Struct("<IQ")
_PIECE = 2**26  # bytes that are read at once: memory is taken as bytes arrive, whatever a length claims


def write_frame(stream: IO[bytes], header: Header, tensors: Tensors) -> None:
    """Send one frame.

    Raises:
        BrokenPipeError: the other side has gone.
        ValueError: the header is too long for a frame.
    """
    head, body = header_bytes(header), body_bytes(tensors)
    if len(head) > MOST_HEADER_BYTES:
        raise ValueError(f"a frame's header of {len(head):,} bytes: at most {MOST_HEADER_BYTES:,} can be sent")
    stream.write(_LENGTHS.pack(len(head), len(body)))
    stream.write(head)
    stream.write(body)
    stream.flush()


def header_bytes(header: Header) -> bytes:
    """Return a header as it travels."""
    return json.dumps(header).encode()


def body_bytes(tensors: Tensors) -> bytes:
    """Return a body as it travels: the same tensors give the same bytes, no tensors none."""
    return save(apart(tensors)) if tensors else b""


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


def read_frame(
    stream: IO[bytes],
    *,
    most_header: int = MOST_HEADER_BYTES,
    most_body: int = MOST_BODY_BYTES,
    most_names: int = MOST_NAMES_BYTES,
) -> Frame:
    """Receive one frame.

    Args:
        stream: of bytes.
        most_header: bytes of a header that is read; a longer one is refused by its length.
        most_body: likewise.
        most_names: see `read_body`.

    Raises:
        EOFError: the other side has gone.
        ValueError: the bytes are not a frame.
    """
    head_length, body_length = _LENGTHS.unpack(_exactly(stream, _LENGTHS.size))
    if head_length > most_header or body_length > most_body:
        raise ValueError(
            f"malformed frame: it claims a header of {head_length:,} bytes (at most {most_header:,}) "
            f"and a body of {body_length:,} (at most {most_body:,})"
        )
    header = read_header(_exactly(stream, head_length))
    return header, read_body(_exactly(stream, body_length), most_names=most_names)


def read_body(body: bytes, *, most_names: int = MOST_NAMES_BYTES) -> Tensors:
    """Return the named tensors of a body; an empty one holds none.

    Args:
        body: safetensors.
        most_names: bytes of its list of tensors; a longer one is refused by its length.

    Raises:
        ValueError: the bytes are not named tensors.
    """
    if not body:
        return {}
    names = int.from_bytes(body[:8], "little")
    if names > most_names:
        raise ValueError(
            f"malformed frame: its body claims a list of tensors of {names:,} bytes; at most {most_names:,}"
        )
    try:
        found: Tensors = load(body)
    except (SafetensorError, ValueError, KeyError, RuntimeError, TypeError) as error:
        raise ValueError(f"malformed frame: its body is not named tensors ({error})") from error
    return found


def read_header(text: bytes) -> Header:
    """Return a header.

    Raises:
        ValueError: the bytes are not a JSON object.
    """
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
