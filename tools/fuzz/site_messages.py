"""What a server, edge servers and sites say to each other, on both ways that it goes; the first byte says on which.

0   a frame on the trainer's socket: frames.read_frame, within the bounds of the socket
1   a message of Flower's: envelope.unpacked, as the server's link and a site's ClientApp read it
"""

import io
import json
import random
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save

from fedcmp.federation.flower.envelope import packed, unpacked
from fedcmp.wire.edge_messages import Account, Delegation, PartialSum
from fedcmp.wire.edge_requests import Delegating, Relay, read_edge_request
from fedcmp.wire.frames import Frame, apart, body_bytes, header_bytes, read_body, read_frame, read_header, write_frame
from fedcmp.wire.messages import Assignment, Reply
from fedcmp.wire.naming import Tensors
from fedcmp.wire.payload import encode, forms
from fedcmp.wire.site_limits import LENGTHS, MOST_BODY, MOST_HEADER, MOST_NAMES
from fedcmp.wire.site_messages import (
    Admission,
    Answer,
    Collecting,
    Handover,
    Header,
    Holding,
    Invitation,
    Judged,
    Judging,
    Kept,
    NotKnown,
    PairsAccount,
    Placement,
    Refusal,
    Request,
    Training,
    Working,
    job_of,
    read_answer,
    read_request,
)
from tools.fuzz.messages import damaged_tensors
from tools.fuzz.mutations import damaged_bytes, damaged_tree, json_text
from tools.fuzz.running import Fault

_Reader = Callable[[Header, Tensors], Request | Answer | Relay | Delegating]
_RUN, _JOB = "ab" * 16, "0f" * 32
_STATE: Tensors = {"linear_1.weight": torch.arange(6.0).view(2, 3), "linear_1.bias": torch.tensor([1.5, -2.0])}
_GRAM: Tensors = {"linear_1.weight": torch.eye(4)}
_ACCOUNT = PairsAccount(
    read=60, train=48, held_out=11, judged=11, refused={"missing": 1}, unused={}, ignored={"txt": 2}, captions_cut=3
)
_ASSIGNMENT = Assignment(
    2,
    learning_rate=0.01,
    forms=forms("int8"),
    step="canonical",
    step_options={"stretch": True},
    extras=("input_gram",),
    error_feedback=True,
    continues=1,
    state=_STATE,
    public={"canonical_basis": _GRAM},
)


def _requests() -> tuple[Request, ...]:
    def head(number: int) -> dict[str, object]:
        return {"run": _RUN, "attempt": 1_764_000_000, "number": number, "patience": 60.0}

    return (
        Invitation.model_validate(head(1) | {"release": "0.2.0", "recipe": '[run]\nmethods = ["fedavg"]\n' * 20}),
        Placement.model_validate(head(2) | {"client": 1, "clients": 3, "first_position": 60}),
        Training(_RUN, 1_764_000_000, 3, 60.0, "shared-basis", _ASSIGNMENT),
        Judging(_RUN, 1_764_000_000, 4, 60.0, "shared-basis", 2, state=_STATE),
        Judging(_RUN, 1_764_000_000, 5, 60.0, "shared-basis", 0, blind=True),
        Handover(_RUN, 1_764_000_000, 6, 60.0, "shared-basis", 2, _STATE),
        Collecting.model_validate(head(7) | {"job": _JOB}),
    )


def _edge_requests() -> tuple[Relay | Delegating, ...]:
    work = Delegation(_ASSIGNMENT, {3: 1, 5: 0}, 1, _STATE, {"canonical_basis": _GRAM}, {"weight": 0.5})
    sites = ("north", "south")
    delegating = Delegating(_RUN, 1, 8, 60.0, "0.2.0", "shared-basis", "shared-basis", {"rank": 4}, sites, 90.0, work)
    return delegating, Relay("north", _requests()[2].to_tensors())


_ANSWERS: tuple[Answer, ...] = (
    Admission(release="0.2.0", usable=60, vision_width=64, text_width=96, vision=_JOB, language=_RUN),
    Holding(train=48, groups={"animals": 40, "plants": 8}, bad_pairs={"missing": 1}, missing_pairs=0, pairs=[_ACCOUNT]),
    Reply(
        2,
        client=1,
        num_examples=16,
        alignment_error=0.5,
        figures={"loss": 0.5, "loss_first": 0.6, "loss_last": 0.4, "update_norm": 0.1, "learning_rate": 0.01},
        seconds=1.5,
        kept=True,
        update=encode(_STATE, "int8"),
        second_moment=_STATE,
        extra={"input_gram": _GRAM},
    ),
    PartialSum(
        2,
        (
            Account(Reply(2, client=3, num_examples=16, alignment_error=0.5), 100, 200, 1.5, 0.25),
            Account(Reply(2, client=5, num_examples=8, alignment_error=0.5), 100, 200, None, None, "not finite"),
        ),
        _STATE,
        bytes_down=400,
    ),
    Judged(losses={"animals": 12.5, "plants": 3.0}, tokens={"animals": 40, "plants": 9}, captions=11, seconds=0.5),
    Working(job=_JOB, steps=3, of=12),
    Kept(),
    NotKnown(what="job"),
    Refusal(reason="method fedcmp: accept.methods has fedavg only", accepted=False),
)
_FRAMES: tuple[Frame, ...] = tuple(message.to_tensors() for message in (*_requests(), *_ANSWERS, *_edge_requests()))
_WHOLE: tuple[tuple[bytes, bytes], ...] = tuple((header_bytes(header), body_bytes(own)) for header, own in _FRAMES)
_REQUESTS = {"invitation", "placement", "training", "judging", "handover", "collecting"}
_EDGE = {"relay", "delegating"}
_KEYS = (
    *("version", "message", "run", "attempt", "number", "patience", "recipe", "client", "first_position", "method"),
    *("assignment", "round", "blind", "job", "usable", "vision_width", "train", "groups", "pairs", "losses", "tokens"),
    *("captions", "steps", "of", "what", "reason", "accepted", "figures", "objective", "objective_options", "read"),
)


class SiteMessages:
    """One request or answer, as a frame or in Flower's envelope."""

    name = "site-messages"
    refusals: tuple[type[Exception], ...] = (ValueError, EOFError)
    memory = 2**28  # a tenth of that of the other kinds: what one site takes from a server, all sites may take

    def __init__(self, work: Path) -> None:
        del work

    def make(self, draw: random.Random) -> bytes:
        """Return the way (one byte), then header and body behind their lengths: damaged, or swollen to megabytes."""
        number = draw.randrange(len(_FRAMES))
        head, body = _WHOLE[number]
        if draw.random() < 0.002:
            head, body = _swollen(draw, _FRAMES[number][0], body)
        elif draw.random() < 0.7:
            head = json_text(damaged_tree(draw, _FRAMES[number][0], _KEYS), draw).encode("utf-8", "surrogatepass")
        if _FRAMES[number][1] and draw.random() < 0.3:
            body = save(apart(damaged_tensors(draw, _FRAMES[number][1])))
        elif draw.random() < 0.1:
            body = draw.choice(_WHOLE)[1]
        if draw.random() < 0.15:
            body = damaged_bytes(draw, body)
        if draw.random() < 0.15:
            head = damaged_bytes(draw, head)
        data = LENGTHS.pack(len(head), len(body)) + head + body
        if draw.random() < 0.15:
            data = damaged_bytes(draw, data)
        return bytes([draw.randrange(2)]) + data

    def feed(self, data: bytes) -> bool:
        """Read it as its receiver does; what was accepted says the same once it was written and read again."""
        header, tensors = _in_an_envelope(data[1:]) if data[:1] == b"\1" else _on_the_socket(data[1:])
        kind = header.get("message")
        read: _Reader = read_answer
        if isinstance(kind, str) and kind in _REQUESTS | _EDGE:
            read = read_edge_request if kind in _EDGE else read_request
        message = read(header, tensors)
        if isinstance(message, Training | Judging | Handover | Delegating) and len(message.job) != len(_JOB):
            raise Fault("a job without a name")
        if isinstance(message, Invitation | Placement) and len(job_of(message)) != len(_JOB):
            raise Fault("a job without a name")
        stream = io.BytesIO()
        write_frame(stream, *message.to_tensors())
        stream.seek(0)
        again, whole = read(*read_frame(stream)).to_tensors()
        first, own = message.to_tensors()
        if json.dumps(again, sort_keys=True) != json.dumps(first, sort_keys=True) or whole.keys() != own.keys():
            raise Fault("it is not the same once it was written again")
        return True


def _swollen(draw: random.Random, header: Header, body: bytes) -> tuple[bytes, bytes]:
    """A header or a body of so many parts that a reader's memory is at stake, not its patience."""
    count = draw.choice((10_000, 30_000, 100_000))
    many: tuple[object, ...] = (
        dict.fromkeys(map(str, range(count)), 1),
        [[] for _ in range(count)],
        "é" * count * 5,
        [{"": None}] * count,
        {"objective_options": [[0]] * count},
    )
    if draw.random() < 0.3:
        entry = '"%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
        names = ("{" + ",".join(entry % number for number in range(count)) + "}").encode()
        return header_bytes(header), len(names).to_bytes(8, "little") + names
    return header_bytes(header | {draw.choice([*header]): draw.choice(many)}), body


def _on_the_socket(data: bytes) -> Frame:
    return read_frame(io.BytesIO(data), most_header=MOST_HEADER, most_body=MOST_BODY, most_names=MOST_NAMES)


def _in_an_envelope(data: bytes) -> Frame:
    """As federation/flower/link.py reads it; what Flower itself could not carry is refused as it would be there."""
    if len(data) < LENGTHS.size:
        raise EOFError("no message")
    length, _ = LENGTHS.unpack(data[: LENGTHS.size])
    rest = data[LENGTHS.size :]
    header, body = unpacked(packed(rest[:length], rest[length:]))
    return read_header(header), read_body(body, most_names=MOST_NAMES)
