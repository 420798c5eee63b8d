"""A Link over Unix sockets: what Flower is to a deployment, without Flower's seconds per message."""

import queue
import socket
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, cast

from fedcmp.federation.flower.link import Lost
from fedcmp.wire.frames import read_frame, write_frame
from fedcmp.wire.site_messages import Frame


class SocketLink:
    """A Link (federation/flower/link.py) to sockets that take one frame and answer one.

    Args:
        sockets: site -> its socket; a site whose socket is not there is not online.
    """

    def __init__(self, sockets: Mapping[str, Path]) -> None:
        self._sockets = dict(sockets)
        self._answers: dict[str, queue.SimpleQueue[Frame | Lost]] = {}

    def online(self) -> frozenset[str]:
        """See Link.online."""
        return frozenset(site for site, path in self._sockets.items() if path.exists())

    def push(self, site: str, frame: Frame, *, seconds: float) -> str:
        """See Link.push."""
        number = str(len(self._answers) + 1)
        answers = self._answers[number] = queue.SimpleQueue()
        arguments = (self._sockets[site], frame, seconds, answers)
        threading.Thread(target=_carry, args=arguments, daemon=True).start()
        return number

    def pull(self, sent: Collection[str]) -> Iterator[tuple[str, Frame | Lost]]:
        """See Link.pull; a message that was answered twice is yielded twice."""
        for number in sent:
            with suppress(queue.Empty):
                while True:
                    yield number, self._answers[number].get_nowait()


def _carry(path: Path, frame: Frame, seconds: float, answers: "queue.SimpleQueue[Frame | Lost]") -> None:
    answered = False
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as site:
            site.settimeout(seconds)
            site.connect(str(path))
            with site.makefile("rwb") as buffered:
                stream = cast(IO[bytes], buffered)
                write_frame(stream, *frame)
                while True:
                    answers.put(read_frame(stream))
                    answered = True
    except (OSError, EOFError, ValueError) as error:
        if not answered:
            answers.put(Lost(str(error) or type(error).__name__))
