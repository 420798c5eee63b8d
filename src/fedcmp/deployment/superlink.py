"""Flower's SuperLink as a child process, with two doors: sites come in by one, the server's own processes by the other.

Flower 1.41 serves three interfaces on one port. Fleet, which SuperNodes use, asks for a registered key. Control, which
registers keys and starts runs, asks for nothing, and whoever starts a run has code executed on the server and at every
site. So the port that sites reach lets Fleet through and refuses everything else, and the rest is served on a port of
the loopback, where the system says who is at the other end: only processes of the user who runs the server.

A SuperNode signs the time of each request, and the SuperLink takes a signature for five minutes. TLS keeps others from
seeing one; should one get out all the same, it opens the public door once only: it is refused when it comes again.

    python -m fedcmp.deployment.launch PARENT fedcmp.deployment.superlink PUBLIC_HOST PUBLIC_PORT FLOWER_ARGUMENT...
"""

import base64
import binascii
import hashlib
import itertools
import os
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import uvicorn

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

FLEET = "/v1/fleet/"
UNCHECKED = ("/v1/runtime/", "/health")  # asks for a task's token, or for a secret; says nothing
KEY_HEADER, TIME_HEADER = b"flwr-public-key", b"flwr-timestamp"  # of a SuperNode's request
CONNECTIONS = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))


class Signatures:
    """Remember which signed times have been used, as long as the SuperLink would take them again.

    Args:
        seconds: how long that is.
    """

    def __init__(self, seconds: float = 400.0) -> None:
        self._seconds = seconds
        self._used: dict[bytes, float] = {}  # in the order of their use

    def use(self, headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
        """Note a request's signed time.

        Returns:
            What it is noted as; b"" for a request that is not signed, which the SuperLink refuses; None for one whose
            signed time was used before.
        """
        given = list(headers)
        keys, times = ([value for name, value in given if name == wanted] for wanted in (KEY_HEADER, TIME_HEADER))
        if not keys or not times:
            return b""
        if len(keys) > 1 or len(times) > 1:  # Flower reads one of them
            return None
        now = time.monotonic()
        for old in list(itertools.takewhile(lambda used: self._used[used] < now - self._seconds, self._used)):
            del self._used[old]
        key = keys[0]
        with suppress(binascii.Error):  # several spellings of a key are one key
            key = base64.b64decode(key)
        signed = hashlib.sha256(len(key).to_bytes(8) + key + times[0]).digest()
        if signed in self._used:
            return None
        self._used[signed] = now
        return signed

    def forget(self, signed: bytes) -> None:
        """Take a note back: the SuperLink has found that it is no signature, and strangers may not fill the memory."""
        self._used.pop(signed, None)


class Doors:
    """Let a request through to the SuperLink, or answer it with 403.

    Args:
        app: the SuperLink.
        public_port: the port that sites reach.
        owner: the user whose processes may use the other one.
    """

    def __init__(self, app: App, public_port: int, owner: int) -> None:
        self._app, self._public_port, self._owner = app, public_port, owner
        self._signatures = Signatures()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request of ASGI."""
        if scope["type"] == "http":
            if not self._may_pass(scope):
                await _refuse(send, 403, b"not served here\n")
                return
            if str(scope["path"]).startswith(FLEET):
                await self._signed(scope, receive, send)
                return
        elif scope["type"] != "lifespan":
            return
        await self._app(scope, receive, send)

    async def _signed(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request of a SuperNode, unless its signed time was used before."""
        signed = self._signatures.use(scope["headers"])
        if signed is None:
            await _refuse(send, 503, b"signed at a time that was used already; sign again\n")  # a SuperNode does
            return

        async def watched(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start" and message["status"] == 401:
                self._signatures.forget(signed)
            await send(message)

        await self._app(scope, receive, watched)

    def _may_pass(self, scope: Scope) -> bool:
        path, server, client = str(scope["path"]), scope.get("server"), scope.get("client")
        if server is None or client is None:
            return False
        if server[1] == self._public_port:
            return path.startswith(FLEET)
        return path.startswith(UNCHECKED) or path.startswith(FLEET) or user_of(client, server) == self._owner


async def _refuse(send: Send, status: int, reason: bytes) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": reason})


def user_of(client: tuple[str, int], server: tuple[str, int]) -> int | None:
    """Return the user who owns this machine's end of a connection of the loopback.

    Args:
        client: address and port of the end that asks.
        server: those of the end that answers.

    Returns:
        The user's number; None where the system does not say, because the other end is on another machine.
    """
    wanted = (_hexadecimal(*client), _hexadecimal(*server))
    for table in CONNECTIONS:
        try:
            lines = table.read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if (fields[1], fields[2]) == wanted:
                return int(fields[7])
    return None


def _hexadecimal(host: str, port: int) -> str:
    """Return an address as /proc/net/tcp writes it: each word of four bytes in the machine's order."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    packed = socket.inet_pton(family, host)
    words = [int.from_bytes(packed[i : i + 4], sys.byteorder) for i in range(0, len(packed), 4)]
    return "".join(f"{word:08X}" for word in words) + f":{port:04X}"


def serve_with_doors(public_host: str, public_port: int, owner: int, app: App, **options: Any) -> None:
    """Serve the SuperLink on its own port of the loopback and on the public one; what `uvicorn.run` is replaced by.

    Args:
        public_host: address that sites reach, 0.0.0.0 for all of this machine's.
        public_port: its port.
        owner: the user whose processes may use the private port.
        app: the SuperLink.
        **options: uvicorn's, with the private host and port.
    """
    for alone in ("workers", "reload"):
        options.pop(alone, None)
    config = uvicorn.Config(app=Doors(app, public_port, owner), **options)
    family = socket.AF_INET6 if ":" in public_host else socket.AF_INET
    public = socket.create_server((public_host, public_port), family=family, backlog=2048)
    uvicorn.Server(config).run(sockets=[config.bind_socket(), public])


def main() -> None:
    """Serve until the supervisor ends this process."""
    from flwr.superlink.cli.flower_superlink import flower_superlink

    public_host, public_port = sys.argv[1], int(sys.argv[2])
    sys.argv = ["flower-superlink", *sys.argv[3:]]

    def run(app: App, **options: Any) -> None:
        serve_with_doors(public_host, public_port, os.getuid(), app, **options)

    uvicorn.run = run  # type: ignore[assignment]  # Flower starts its server by this name
    flower_superlink()


if __name__ == "__main__":
    main()
