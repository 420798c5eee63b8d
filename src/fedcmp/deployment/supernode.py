"""Flower's SuperNode at a site: how it is started, what its lines say, and whether its server can be reached at all."""

import http.client
import re
import socket
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Literal

import httpx

from fedcmp.deployment.addresses import split_address
from fedcmp.deployment.flower_lines import plain

ENTRY = "flwr.supernode.cli:flower_supernode"
_NODE = re.compile(r"SuperNode ID: (\d+)")
_REFUSED = re.compile(r"\[code: 2004\]|Failed to activate SuperNode")

MOST_SKEW = 300.0  # seconds by which Flower lets the clocks of a SuperNode and its SuperLink differ, about

Kind = Literal["connected", "refused", "lost", "back"]


@dataclass(frozen=True)
class NodeLine:
    """What a line of the SuperNode says.

    Attributes:
        kind: connected, refused, lost (the server does not answer) or back.
        node: with connected, the number of its node.
    """

    kind: Kind
    node: str = ""


def read_node_line(line: str) -> NodeLine | None:
    """Return what a line of the SuperNode says; None where it is of no interest."""
    text = plain(line)
    if found := _NODE.search(text):
        return NodeLine("connected", found[1])
    if _REFUSED.search(text):
        return NodeLine("refused")
    if "Connection attempt failed" in text:
        return NodeLine("lost")
    return NodeLine("back") if "Connection successful after" in text else None


def node_arguments(
    *, server: str, authority: Path, key: Path, port: int, secret: Path, socket_path: Path
) -> Sequence[str]:
    """Return the arguments of `flower-supernode`.

    Args:
        server: "host:port".
        authority: certificate of the federation's authority.
        key: the site's private key.
        port: of this machine's loopback, for the SuperNode's apps.
        secret: file with the secret between the SuperNode and what starts its apps.
        socket_path: of the resident trainer, for the ClientApp.
    """
    return [
        *("--superlink", server, "--root-certificates", str(authority), "--auth-supernode-private-key", str(key)),
        *("--host", "127.0.0.1", "--port", str(port), "--isolation", "process"),
        *("--superexec-auth-secret-file", str(secret), "--node-config", f'socket="{socket_path}"'),
    ]


@dataclass(frozen=True)
class Reached:
    """Whether a site could shake hands with its server.

    Attributes:
        outcome: "yes"; "no": nothing answers there; "untrusted": what answers has a certificate that is not right.
        reason: one line, for the user.
    """

    outcome: Literal["yes", "no", "untrusted"]
    reason: str = ""


def reach(server: str, authority: Path, timeout: float = 10.0) -> Reached:
    """Shake hands with a server over TLS, as the SuperNode will.

    Args:
        server: "host:port".
        authority: certificate of the federation's authority.
        timeout: in seconds.
    """
    host, port = split_address(server)
    try:
        context = ssl.create_default_context(cafile=authority)
    except (OSError, ssl.SSLError) as error:
        return Reached("untrusted", f"{authority}: is not a readable certificate ({error})")
    try:
        with (
            socket.create_connection((host, port), timeout=timeout) as connection,
            context.wrap_socket(connection, server_hostname=host),
        ):
            return Reached("yes")
    except ssl.SSLCertVerificationError as error:
        return Reached("untrusted", _untrusted(server, host, authority, error))
    except ssl.SSLError as error:
        return Reached("untrusted", f"{server}: does not speak TLS as the server of a federation does ({error.reason})")
    except OSError as error:
        return Reached("no", f"{server}: {error.strerror or error}")


def clock_difference(server: str, authority: Path, timeout: float = 10.0) -> float | None:
    """Return by how many seconds this machine's clock is ahead of the server's, about; None where it does not say.

    Args:
        server: "host:port".
        authority: certificate of the federation's authority.
        timeout: in seconds.
    """
    host, port = split_address(server)
    try:
        context = ssl.create_default_context(cafile=authority)
        connection = http.client.HTTPSConnection(host, port, context=context, timeout=timeout)
        try:
            connection.request("GET", "/")  # is refused, with the time
            said = connection.getresponse().headers.get("date", "")
            return time.time() - parsedate_to_datetime(said).timestamp()
        finally:
            connection.close()
    except (OSError, http.client.HTTPException, ValueError):
        return None


def _untrusted(server: str, host: str, authority: Path, error: ssl.SSLCertVerificationError) -> str:
    said = error.verify_message
    if "mismatch" in said or "not valid for" in said:
        return (
            f"{server}: its certificate does not name {host!r}; use an address that it names, or let the server's "
            "operator add this one: fedcmp keys server HOME --renew --address HOST"
        )
    if "expired" in said or "not yet valid" in said:
        return f"{server}: its certificate is out of date ({said}); check this machine's clock, or have it renewed"
    return (
        f"{server}: its certificate is not from the authority in {authority} ({said}); ask the server's operator for "
        "certificates/ca.pem, and compare it over another channel"
    )


def free_node(server: str, authority: Path, key: Path, node: int) -> bool:
    """Tell the server that this site's earlier connection is over.

    A SuperNode that was killed is taken for connected for up to a minute, and a new one with its key is refused. Only
    the key's owner can say so, and the site is.

    Args:
        server: "host:port".
        authority: certificate of the federation's authority.
        key: the site's private key.
        node: number of the earlier connection's node.

    Returns:
        Whether the server knew that node as connected.
    """
    from typing import cast

    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_ssh_private_key
    from flwr.proto.fleet_pb2 import DeactivateNodeRequest
    from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
    from flwr.supernode.fleet_http_client import FleetHttpClient
    from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

    private = cast(ec.EllipticCurvePrivateKey, load_ssh_private_key(key.read_bytes(), password=None))
    signing = NodeAuthHttpInterceptor(private, private.public_key())
    try:
        with FleetHttpClient.from_server_address(
            server, False, str(authority), interceptors=[RuntimeVersionHttpInterceptor("fedcmp"), signing]
        ) as client:
            client.DeactivateNode(DeactivateNodeRequest(node_id=node))
    except httpx.HTTPError:
        return False
    return True
