"""Sites that hold no pairs and train nothing: they answer every request of a server at once, with random updates.

For measuring the server and what carries its messages. `FakeSite` stands in for a site's resident trainer; run as a
program, this file is a process in which any number of them answer over one TCP socket of the loopback.

    python benchmarks/fake_sites.py PORT              sites of federation_scale.py
    python -m fake_sites SITE.toml --socket PATH      a trainer, of federation_flower.py
FAKE_WIDTHS ("512 768") in the environment says which frozen parts they claim to have.
"""

import json
import os
import socket
import struct
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO

import torch
from safetensors.torch import load, save

from fedcmp.aggregation.matrices import find_matrices
from fedcmp.aggregation.shared_basis import GRAM, SECOND_MOMENT
from fedcmp.model.projector import Projector
from fedcmp.version import __version__
from fedcmp.wire.frames import apart
from fedcmp.wire.messages import Assignment, Reply
from fedcmp.wire.naming import Tensors, joined
from fedcmp.wire.site_messages import (
    Admission,
    Frame,
    Handover,
    Holding,
    Invitation,
    Kept,
    Placement,
    Refusal,
    Training,
    read_request,
)

VARIANTS = 3  # different updates; a site sends one of them in every round
PAIRS = 1000  # that a site says it has
_LENGTHS = struct.Struct("<IQ")  # wire/frames.py


class FakeSite:
    """One site, whose replies are made once: a server is timed, not a generator of random numbers.

    Args:
        vision, text: widths of the frozen parts that it claims to have.
    """

    def __init__(self, vision: int, text: int) -> None:
        self._vision, self._text = vision, text
        self._client = 0
        self._made: dict[tuple[int, bool, bool], Tensors] = {}

    def answer(self, header: dict[str, object], tensors: Tensors) -> Frame:
        """Answer one request; of an assignment, its header says enough."""
        request = read_request(header, tensors)
        if isinstance(request, Invitation):
            widths = {"vision_width": self._vision, "text_width": self._text}
            return Admission(
                release=__version__, usable=PAIRS, vision="0" * 16, language="0" * 16, **widths
            ).to_tensors()
        if isinstance(request, Placement):
            self._client = request.client
            return Holding(train=PAIRS, groups={}, bad_pairs={}, missing_pairs=0, pairs=[]).to_tensors()
        if isinstance(request, Handover):
            return Kept().to_tensors()
        assert isinstance(request, Training)
        return self.reply(request.assignment, self._client)

    def reply(self, assignment: Assignment, client: int) -> Frame:
        """The frame of a reply whose tensors are those of one of the variants."""
        canonical = SECOND_MOMENT in assignment.extras
        key = client % VARIANTS, canonical, assignment.forms.whole
        if key not in self._made:
            self._made[key] = _tensors(self._vision, self._text, seed=key[0], canonical=canonical)
        reply = Reply(
            round=assignment.round,
            client=client,
            num_examples=PAIRS,
            alignment_error=0.5,
            measure_only=assignment.measure_only,
            figures={} if assignment.measure_only else {"loss": 1.0, "update_norm": 1.0},
        )
        return reply.to_tensors()[0], self._made[key]


def _tensors(vision: int, text: int, *, seed: int, canonical: bool) -> Tensors:
    """A reply's: the trained tensors, and for shared-basis second moments and Gram matrices, all in float32."""
    torch.manual_seed(seed)
    state = {name: t.detach() + 1e-3 * torch.randn(t.shape) for name, t in Projector(vision, text).state_dict().items()}
    extra: dict[str, Tensors] = {}
    if canonical:
        moments, grams = {}, {}
        for matrix in find_matrices(state, bias="column"):
            outputs, inputs = state[matrix.weight].shape
            moments[matrix.weight] = 1e-6 * torch.rand(outputs, inputs + 1)
            fed = torch.randn(2 * inputs, inputs + 1) * torch.linspace(0.1, 2, inputs + 1)
            grams[matrix.weight] = fed.T @ fed / len(fed)
        extra = {SECOND_MOMENT: moments, GRAM: grams}
    return apart(joined(state=state, extra=extra))


class SocketLink:
    """A Link (federation/flower/link.py) to fake sites in another process: one frame at a time, over loopback TCP.

    Args:
        port: where they listen.
        sites: their names.

    Attributes:
        up, down: bytes that were carried.
        seconds: spent in carrying them.
    """

    def __init__(self, port: int, sites: list[str]) -> None:
        connection = socket.create_connection(("127.0.0.1", port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._stream: BinaryIO = connection.makefile("rwb")
        self._sites, self._number = frozenset(sites), 0
        self._body: tuple[Tensors, bytes] = {}, b""  # a round's messages share it, as over Flower
        self.up = self.down = 0

    def online(self) -> frozenset[str]:
        """All of them."""
        return self._sites

    def push(self, site: str, frame: Frame, *, seconds: float) -> str:
        """Send a frame."""
        del seconds
        header, tensors = frame
        self._number += 1
        known, body = self._body
        if tensors.keys() != known.keys() or any(tensors[name] is not known[name] for name in tensors):
            body = save(apart(tensors)) if tensors else b""
            self._body = dict(tensors), body
        head = json.dumps({"number": self._number, "site": site, "header": header}).encode()
        self.down += write_bytes(self._stream, head, body)
        return str(self._number)

    def pull(self, sent: Collection[str]) -> Iterator[tuple[str, Frame]]:
        """Fetch the answers one after the other: however many there are, one is in memory."""
        for number in sent:
            write_bytes(self._stream, json.dumps({"pull": int(number)}).encode(), b"")
            head, body = read_bytes(self._stream)
            self.up += len(head) + len(body)
            yield number, (json.loads(head), load(body) if body else {})

    def echo(self, body: bytes) -> None:
        """Send bytes there and have as many sent back: what the link can do."""
        write_bytes(self._stream, json.dumps({"echo": True}).encode(), body)
        read_bytes(self._stream)


def write_bytes(stream: BinaryIO, head: bytes, body: bytes) -> int:
    """Send one frame that is bytes already; return how many."""
    stream.write(_LENGTHS.pack(len(head), len(body)))
    stream.write(head)
    stream.write(body)
    stream.flush()
    return len(head) + len(body)


def read_bytes(stream: BinaryIO) -> tuple[bytes, bytes]:
    """Receive one frame as bytes."""
    lengths = stream.read(_LENGTHS.size)
    if len(lengths) < _LENGTHS.size:
        raise EOFError
    head, body = _LENGTHS.unpack(lengths)
    return stream.read(head), stream.read(body)


def serve(port: int, vision: int, text: int) -> None:
    """Answer frames of one server until it goes."""
    sites: dict[str, FakeSite] = {}
    made: dict[int, bytes] = {}  # tensors of a variant -> the body that they are in
    shared = FakeSite(vision, text)
    waiting: dict[int, Frame] = {}
    listening = socket.create_server(("127.0.0.1", port))
    print("ready", flush=True)
    connection, _ = listening.accept()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    stream: BinaryIO = connection.makefile("rwb")
    while True:
        try:
            head, body = read_bytes(stream)
        except EOFError:
            return
        said = json.loads(head)
        if "echo" in said:
            write_bytes(stream, b"", body)
            continue
        if "pull" in said:
            header, tensors = waiting.pop(said["pull"])
            if tensors and id(tensors) not in made:
                made[id(tensors)] = save(tensors)
            write_bytes(stream, json.dumps(header).encode(), made[id(tensors)] if tensors else b"")
            continue
        site = sites.setdefault(said["site"], FakeSite(vision, text))
        site._made = shared._made  # one set of variants for all
        waiting[said["number"]] = site.answer(said["header"], load(body) if body else {})


def malformed(error: ValueError) -> Frame:
    return Refusal(reason=str(error), accepted=False).to_tensors()


def main() -> None:
    torch.set_num_threads(1)
    vision, text = map(int, os.environ["FAKE_WIDTHS"].split())
    if "--socket" not in sys.argv:
        serve(int(sys.argv[1]), vision, text)
        return
    from fedcmp.deployment.trainer_socket import TrainerSocket

    place = Path(sys.argv[sys.argv.index("--socket") + 1])
    with TrainerSocket(place, FakeSite(vision, text).answer, malformed) as server:
        print("the trainer is ready", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
