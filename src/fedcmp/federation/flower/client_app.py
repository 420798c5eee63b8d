"""A site's ClientApp: hands each message to the site's resident trainer, and its answer back.

Flower starts this anew for every message, so it loads nothing heavy and knows nothing: the trainer behind the Unix
socket (deployment/trainer.py) holds the model and the pairs, and decides what is done.
"""

import socket
import time
from io import BufferedRWPair
from pathlib import Path

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from fedcmp.federation.flower.envelope import packed, unpacked
from fedcmp.wire.site_limits import LENGTHS

_WAIT = 60.0  # seconds for a trainer that is being started

app = ClientApp()


@app.train()
def forward(message: Message, context: Context) -> Message:
    """Answer one message.

    Raises:
        ValueError: the SuperNode was started without node config `socket`, or the message is none of ours.
        OSError: no trainer answers there.
    """
    place = context.node_config.get("socket")
    if not isinstance(place, str):
        raise ValueError("the SuperNode has no node config `socket`: start it by `fedcmp join SITE.toml`")
    header, body = unpacked(message.content)
    with _connected(Path(place)) as trainer, trainer.makefile("rwb") as stream:
        _send(stream, header, body)
        answer = _received(stream)
    return Message(packed(*answer), reply_to=message)


def _connected(path: Path) -> socket.socket:
    until = time.monotonic() + _WAIT
    while True:
        trainer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            trainer.connect(str(path))
            return trainer
        except OSError:
            trainer.close()
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


def _send(stream: BufferedRWPair, header: bytes, body: bytes) -> None:
    stream.write(LENGTHS.pack(len(header), len(body)))
    stream.write(header)
    stream.write(body)
    stream.flush()


def _received(stream: BufferedRWPair) -> tuple[bytes, bytes]:
    header_length, body_length = LENGTHS.unpack(_exactly(stream, LENGTHS.size))
    return _exactly(stream, header_length), _exactly(stream, body_length)


def _exactly(stream: BufferedRWPair, count: int) -> bytes:
    found = stream.read(count)
    if len(found) < count:
        raise ConnectionError("the trainer ended in the middle of its answer")
    return found
