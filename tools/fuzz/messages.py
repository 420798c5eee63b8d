"""Messages between server and clients: frames, headers, named tensors, and the files that hold them."""

import io
import json
import random
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from fedcmp.wire.files import read_message, write_message
from fedcmp.wire.frames import apart, read_frame, write_frame
from fedcmp.wire.messages import Assignment, ClientState, Reply
from fedcmp.wire.part_state import PartState
from fedcmp.wire.payload import encode, forms
from tools.fuzz.mutations import damaged_bytes, damaged_tree, json_text
from tools.fuzz.running import Fault

Message = Assignment | Reply | ClientState | PartState
_A, _B = torch.arange(6.0).view(2, 3), torch.tensor([1.5, -2.0])
_NAMED = {"linear_1.weight": _A, "linear_1.bias": _B}
_READERS: dict[str, Callable[[Mapping[str, Any], Mapping[str, Tensor]], Message]] = {
    "assignment": Assignment.from_tensors,
    "reply": Reply.from_tensors,
    "client state": ClientState.from_tensors,
    "part state": PartState.from_tensors,
}
_WHOLE: tuple[Message, ...] = (
    Assignment(
        3,
        learning_rate=0.01,
        forms=forms("int8"),
        objective="moon",
        objective_options={"mu": 1.0},
        step="soap",
        step_options={"refresh": 5},
        extras=("input_gram",),
        continues=2,
        state=_NAMED,
        public={"canonical_basis": {"linear_1.weight": _A}},
    ),
    Reply(
        3,
        client=4,
        num_examples=17,
        alignment_error=0.25,
        figures={"loss": 0.5},
        seconds=2.5,
        kept=True,
        update=encode(_NAMED, "int8"),
        second_moment={"b": _B},
        extra={"input_gram": {"linear_1.weight": _A}},
    ),
    ClientState(5, memory={"control": _NAMED}, residual={"b": _B}, optimizer={"step.b": _B}, state=_NAMED),
    PartState("work", 2, [[0.5], []], [3, 0], {"w": _A}, {"m": _A}, {"g": _B}, {"gram": {"w": _A}}, {}),
)
_HEADERS = ("version", "message", "round", "client", "figures", "loss", "seconds", "objective_options", "header")
_TENSORS = (
    "",
    "state",
    "state/",
    "/x",
    "update/a@scales",
    "extra/a",
    "extra//b",
    "public/a/b",
    "memory/\ud800/b",
    "x" * 300,
)


class Messages:
    """One message, as a frame or as a file."""

    name = "messages"
    refusals: tuple[type[Exception], ...] = (ValueError, EOFError)

    def __init__(self, work: Path) -> None:
        self._path = work / "message.safetensors"

    def make(self, draw: random.Random) -> bytes:
        """Return a frame (first byte 0) or a file (1) whose header, tensors or bytes are damaged."""
        header, tensors = draw.choice(_WHOLE).to_tensors()
        as_file = draw.random() < 0.3
        if draw.random() < 0.7:
            header = damaged_tree(draw, header, _HEADERS)
        if draw.random() < 0.3:
            tensors = damaged_tensors(draw, tensors)
        text = json_text(header, draw)
        if as_file:
            try:
                plain = json.loads(text)
                write_message(self._path, plain if isinstance(plain, dict) else {}, tensors)
                data = self._path.read_bytes()
            except (ValueError, RecursionError, UnicodeError):
                data = save(apart(tensors), {"fedcmp": text.encode("utf-8", "replace").decode()})
        else:
            body, head = save(apart(tensors)), text.encode("utf-8", "surrogatepass")
            data = struct.pack("<IQ", len(head), len(body)) + head + body
        return bytes([as_file]) + (damaged_bytes(draw, data) if draw.random() < 0.5 else data)

    def feed(self, data: bytes) -> bool:
        """Read it, and write what was accepted again."""
        if data[:1] == b"\1":
            self._path.write_bytes(data[1:])
            header, tensors = read_message(self._path)
        else:
            header, tensors = read_frame(io.BytesIO(data[1:]))
        kind = header.get("message")
        read = _READERS.get(kind, Reply.from_tensors) if isinstance(kind, str) else Reply.from_tensors
        message = read(header, tensors)
        stream = io.BytesIO()
        write_frame(stream, *message.to_tensors())
        stream.seek(0)
        again = read(*read_frame(stream))
        if again.to_tensors()[0].keys() != message.to_tensors()[0].keys():
            raise Fault("it is not the same once it was written again")
        return True


def damaged_tensors(draw: random.Random, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return named tensors of which one or two are renamed, removed, or of another shape, type or content."""
    out = dict(tensors)
    for _ in range(draw.choice((1, 1, 2))):
        if not out:
            return out
        name = draw.choice(sorted(out))
        tensor = out[name]
        match draw.randrange(6):
            case 0:
                out[draw.choice(_TENSORS).encode("utf-8", "replace").decode()] = out.pop(name)
            case 1:
                del out[name]
            case 2:
                out[name] = draw.choice(
                    (
                        tensor[None],
                        tensor.reshape(-1),
                        tensor.reshape(-1)[:0],
                        tensor.sum(),
                        tensor.mT.contiguous() if tensor.dim() > 1 else tensor,
                    )
                )
            case 3:
                types = (torch.float64, torch.float16, torch.bfloat16, torch.int8, torch.int64, torch.bool, torch.uint8)
                out[name] = tensor.to(draw.choice(types))
            case 4:
                extremes = (float("nan"), float("inf"), -float("inf"), 1e38, -1e38, 1e19, 1e30, 1e-45, 0.0)
                if tensor.is_floating_point() and tensor.numel():
                    changed = tensor.clone()
                    changed.view(-1)[draw.randrange(changed.numel()) if draw.random() < 0.5 else slice(None)] = (
                        draw.choice(extremes)
                    )
                    out[name] = changed
            case _:
                out[name] = (
                    tensor * draw.choice((1e6, 1e20, -1, 0))
                    if tensor.is_floating_point()
                    else tensor.to(torch.int64) + 1
                )
    return {name: tensor.clone().contiguous() for name, tensor in out.items()}
