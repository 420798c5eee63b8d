"""The network between server and sites: it outlives both, and loses, delays, repeats and mixes up what it carries.

Each site has a socket here, by which the server reaches the trainer's socket behind it. What becomes of a message is
asked of `fate` when it comes; a site that is cut off has no socket and no connections.
"""

import socket
import socketserver
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import IO, NamedTuple, cast

from fedcmp.wire.frames import read_frame, write_frame
from fedcmp.wire.site_messages import Frame, Header, Refusal
from tools.faults.places import SITES, Places

_START = 20.0  # seconds for a trainer that is being started, as Flower's ClientApp gives it


class Fate(NamedTuple):
    """What becomes of one message: "" passes; the others are in `_Handler.handle`, `seconds` is how long it takes."""

    what: str = ""
    seconds: float = 0.0


Fates = Callable[[str, Header], Fate]


class Network:
    """Sockets of all sites; use as a context manager.

    Args:
        places: of the sockets.
        fate: called with a site and a message's header; may be called by several threads at once.
    """

    def __init__(self, places: Places, fate: Fates) -> None:
        self.places, self.fate = places, fate
        self.replies: dict[str, Frame] = {}  # site -> its first reply: of another round than later ones
        self._connections: dict[str, set[socket.socket]] = {site: set() for site in SITES}
        self._cut: set[str] = set()
        self._lock = threading.Lock()
        self._servers = [_Server(self, site) for site in SITES]

    def __enter__(self) -> "Network":
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for site, server in zip(SITES, self._servers, strict=True):
            server.shutdown()
            server.server_close()
            self.cut(site)

    def cut(self, site: str) -> None:
        """Cut a site off: what is on its way is lost."""
        with self._lock:
            self._cut.add(site)
            if self.places.network(site).exists():
                self.places.network(site).rename(self._hidden(site))
            for connection in self._connections[site]:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def heal(self, site: str) -> None:
        """Let a site be reached again."""
        with self._lock:
            self._cut.discard(site)
            if self._hidden(site).exists():
                self._hidden(site).rename(self.places.network(site))

    def forward(self, site: str, frame: Frame) -> Frame:
        """Hand a frame to a trainer, which may just be starting; return its answer.

        Raises:
            OSError, EOFError, ValueError: it does not answer, or the site is cut off.
        """
        with self._connected(site) as trainer, trainer.makefile("rwb") as buffered:
            stream = cast(IO[bytes], buffered)
            write_frame(stream, *frame)
            answer = read_frame(stream)
        if answer[0].get("message") == "reply":
            self.replies.setdefault(site, answer)
        return answer

    def _hidden(self, site: str) -> Path:
        path = self.places.network(site)
        return path.with_name(f".{path.name}")

    @contextmanager
    def _connected(self, site: str) -> Iterator[socket.socket]:
        until = time.monotonic() + _START
        while True:
            trainer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                trainer.connect(str(self.places.trainer(site)))
                break
            except OSError:
                trainer.close()
                if time.monotonic() > until or site in self._cut:
                    raise
                time.sleep(0.05)
        with trainer, self.noted(site, trainer):
            yield trainer

    @contextmanager
    def noted(self, site: str, connection: socket.socket) -> Iterator[None]:
        """Let a connection be broken when the site is cut off."""
        with self._lock:
            if site in self._cut:
                raise ConnectionError("cut off")
            self._connections[site].add(connection)
        try:
            yield
        finally:
            with self._lock:
                self._connections[site].discard(connection)


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, network: Network, site: str) -> None:
        self.network, self.site = network, site
        super().__init__(str(network.places.network(site)), _Handler)

    def handle_error(self, *_: object) -> None:
        """Say nothing: either side may be killed at any moment."""


class _Handler(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        """Carry one message, as its fate will have it."""
        network, site = self.server.network, self.server.site
        with (
            suppress(OSError, EOFError, ValueError, struct.error),
            network.noted(site, self.connection),
        ):
            frame = read_frame(cast(IO[bytes], self.rfile))
            what, seconds = network.fate(site, frame[0])
            match what:
                case "refused":  # by a site's operator: never in a schedule, only in what it is compared with
                    self._answer(Refusal(reason="left out", accepted=False).to_tensors())
                case "lost":
                    time.sleep(seconds)
                case "answer lost":
                    network.forward(site, frame)
                case "answered twice":
                    self._answer(*[network.forward(site, frame)] * 2)
                case "delivered twice":
                    again = threading.Thread(target=self._again, args=(frame, 0.0), daemon=True)
                    again.start()
                    self._answer(network.forward(site, frame))
                case "delivered again later":
                    threading.Thread(target=self._again, args=(frame, seconds), daemon=True).start()
                    self._answer(network.forward(site, frame))
                case "late":
                    time.sleep(seconds)
                    self._answer(network.forward(site, frame))
                case "answered late":
                    answer = network.forward(site, frame)
                    time.sleep(seconds)
                    self._answer(answer)
                case "answered for another round":
                    answer = network.forward(site, frame)
                    self._answer(network.replies.get(site, answer))
                case "answer torn":
                    whole = BytesIO()
                    write_frame(whole, *network.forward(site, frame))
                    self.wfile.write(whole.getvalue()[: len(whole.getvalue()) // 2])
                case "answer of other bytes":
                    header, tensors = network.forward(site, frame)
                    self._answer((header | {"round": "first"}, tensors))
                case _:
                    self._answer(network.forward(site, frame))

    def _answer(self, *frames: Frame) -> None:
        for frame in frames:
            write_frame(cast(IO[bytes], self.wfile), *frame)

    def _again(self, frame: Frame, seconds: float) -> None:
        time.sleep(seconds)
        with suppress(OSError, EOFError, ValueError):
            self.server.network.forward(self.server.site, frame)
