"""Flower's SuperLink as a child process, with two doors: sites come in by one, the server's own processes by the other.

Flower 1.41 serves three interfaces on one port. Fleet, which SuperNodes use, asks for a registered key. Control, which
registers keys and starts runs, asks for nothing, and whoever starts a run has code executed on the server and at every
site. So the port that sites reach lets Fleet through and refuses everything else, and the rest is served on a port of
the loopback, where the system says who is at the other end: only processes of the user who runs the server.

    python -m fedcmp.deployment.launch PARENT fedcmp.deployment.superlink PUBLIC_HOST PUBLIC_PORT FLOWER_ARGUMENT...
"""

import socket
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

import uvicorn

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

FLEET = "/v1/fleet/"
UNCHECKED = ("/v1/runtime/", "/health")  # asks for a task's token, or for a secret; says nothing
CONNECTIONS = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))


class Doors:
    """Let a request through to the SuperLink, or answer it with 403.

    Args:
        app: the SuperLink.
        public_port: the port that sites reach.
        owner: the user whose processes may use the other one.
    """

    def __init__(self, app: App, public_port: int, owner: int) -> None:
        self._app, self._public_port, self._owner = app, public_port, owner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request of ASGI."""
        if scope["type"] == "lifespan" or (scope["type"] == "http" and self._may_pass(scope)):
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        headers = [(b"content-type", b"text/plain; charset=utf-8")]
        await send({"type": "http.response.start", "status": 403, "headers": headers})
        await send({"type": "http.response.body", "body": b"not served here\n"})

    def _may_pass(self, scope: Scope) -> bool:
        path, server, client = str(scope["path"]), scope.get("server"), scope.get("client")
        if server is None or client is None:
            return False
        if server[1] == self._public_port:
            return path.startswith(FLEET)
        return path.startswith(UNCHECKED) or path.startswith(FLEET) or user_of(client, server) == self._owner


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
    import os

    from flwr.superlink.cli.flower_superlink import flower_superlink

    public_host, public_port = sys.argv[1], int(sys.argv[2])
    sys.argv = ["flower-superlink", *sys.argv[3:]]

    def run(app: App, **options: Any) -> None:
        serve_with_doors(public_host, public_port, os.getuid(), app, **options)

    uvicorn.run = run  # type: ignore[assignment]  # Flower starts its server by this name
    flower_superlink()


if __name__ == "__main__":
    main()
