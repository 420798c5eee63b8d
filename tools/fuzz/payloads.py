"""What clients send in a round: replies that reach a server, and the projector that its rule makes of them."""

import io
import logging
import random
import shutil
import struct
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from fedcmp.aggregation.labels import GRAM, SECOND_MOMENT
from fedcmp.aggregation.scaffold import CHANGE
from fedcmp.config import parse_recipe
from fedcmp.config.methods import choose
from fedcmp.errors import UserError
from fedcmp.federation.server import ServerSide
from fedcmp.wire.frames import apart, read_frame
from fedcmp.wire.messages import Reply
from fedcmp.wire.naming import Tensors
from fedcmp.wire.payload import encode
from tools.fuzz.messages import damaged_tensors
from tools.fuzz.mutations import damaged_bytes, damaged_tree, json_text
from tools.fuzz.running import Fault

_RULES = ("fedavg", "shared-basis", "fedcmp", "fisher", "scaffold", "ties", "knots-ties", "metagpt", "fedyogi", "dare")
_PAYLOADS = ("float32", "bfloat16", "int8")
_CLIENTS = ("a", "b", "c")
_SHAPES = {"linear_1.weight": (4, 3), "linear_1.bias": (4,), "linear_2.weight": (2, 4), "linear_2.bias": (2,)}
_LENGTH = struct.Struct("<I")
_HEADERS = ("round", "client", "num_examples", "alignment_error", "figures", "loss", "seconds", "kept", "refused")


class Payloads:
    """The replies of three clients in one round, the second one's damaged."""

    name = "payloads"
    refusals: tuple[type[Exception], ...] = (ValueError, EOFError)

    def __init__(self, work: Path) -> None:
        self._waiting = work / "waiting"
        logging.getLogger("fedcmp.federation").setLevel(logging.ERROR)

    def make(self, draw: random.Random) -> bytes:
        """Return a line with rule, payload and what a refusal means, then each client's frame behind its length."""
        rule, payload = draw.choice(_RULES), draw.choice(_PAYLOADS)
        frames: list[bytes] = []
        for client in range(len(_CLIENTS)):
            header, tensors = _reply(draw.randrange(2**31), client, payload).to_tensors()
            if client == 1:
                if draw.random() < 0.75:
                    tensors = damaged_tensors(draw, tensors)
                if draw.random() < 0.3:
                    header = damaged_tree(draw, header, _HEADERS)
            body, head = save(apart(tensors)), json_text(header, random.Random(0)).encode("utf-8", "surrogatepass")
            frame = struct.pack("<IQ", len(head), len(body)) + head + body
            if client == 1 and draw.random() < 0.2:
                frame = damaged_bytes(draw, frame)
            frames.append(frame)
        told = f"{rule} {payload} {draw.choice(('drop', 'stop'))}\n".encode()
        return told + b"".join(_LENGTH.pack(len(frame)) + frame for frame in frames)

    def feed(self, data: bytes) -> bool:
        """Play the round; what its rule makes is finite. A reply that is refused by its client's name is a refusal."""
        told, _, rest = data.partition(b"\n")
        rule, payload, on_bad_update = told.decode().split()
        federation = {"payload": payload, "on_bad_update": on_bad_update, "min_clients": 2}
        recipe = parse_recipe({"data": {"num_pairs": 100}, "federation": federation}, "fuzz")
        shutil.rmtree(self._waiting, ignore_errors=True)
        initial = {name: torch.full(shape, 0.1) for name, shape in _SHAPES.items()}
        server = ServerSide(rule, choose(rule), recipe, _CLIENTS, initial, self._waiting, 0.003)
        server.open(1, range(len(_CLIENTS)))
        replies = [_received(frame) for frame in _frames(rest)]
        try:
            ignored = [server.receive(reply) for reply in replies]
            records: list[dict[str, Any]] = [record.line() for record in server.close()]
        except UserError as error:
            if replies[1].client == 1 and (on_bad_update == "drop" or "(b)" not in str(error)):
                raise Fault(f"{rule}: the round ends although one client can be dropped, or names another") from error
            raise
        except ValueError as error:  # pydantic's errors are of this class too
            raise Fault(f"{rule}: a reply ends the server") from error
        for name, tensor in server.states["global"].items():
            if not bool(tensor.isfinite().all()) or tuple(tensor.shape) != _SHAPES[name]:
                raise Fault(f"{rule}: the next {name} is not finite, or of another shape")
        for kept in server.memory().values():
            if not bool(kept.isfinite().all()):
                raise Fault(f"{rule}: what it remembers is not finite")
        return not any(ignored) and not any(record.get("refused") for record in records)


def _received(frame: bytes) -> Reply:
    return Reply.from_tensors(*read_frame(io.BytesIO(frame)))


def _frames(data: bytes) -> list[bytes]:
    found: list[bytes] = []
    while data:
        (length,) = _LENGTH.unpack(data[: _LENGTH.size])
        found.append(data[_LENGTH.size : _LENGTH.size + length])
        data = data[_LENGTH.size + length :]
    return found


def _reply(seed: int, client: int, payload: str) -> Reply:
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator) * 0.01

    update: Tensors = {name: noise(*shape) for name, shape in _SHAPES.items()}
    moments: dict[str, Tensors] = {"gram": {}, "moment": {}}
    for name in ("linear_1.weight", "linear_2.weight"):
        rows, columns = _SHAPES[name]
        inputs = noise(8, columns + 1)
        moments["gram"][name] = inputs.mT @ inputs
        moments["moment"][name] = noise(rows, columns + 1) ** 2
    whole = payload == "float32"
    state = {name: tensor + 0.1 for name, tensor in update.items()}
    return Reply(
        1,
        client=client,
        num_examples=10 + client,
        alignment_error=0.25,
        figures={"loss": 0.5, "loss_first": 0.6, "loss_last": 0.4, "update_norm": 0.1, "learning_rate": 0.003},
        seconds=0.5,
        kept=True,
        state=state if whole else {},
        update={} if whole else encode(update, payload),  # type: ignore[arg-type]
        second_moment={name: tensor**2 for name, tensor in update.items()},
        extra={GRAM: moments["gram"], SECOND_MOMENT: moments["moment"], CHANGE: update},
    )
