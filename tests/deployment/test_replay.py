"""A request that somebody has recorded: on the wire, and in clear behind TLS, against a real SuperLink."""

import socket
import ssl
import threading
import time

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from flwr.common.constant import TIMESTAMP_HEADER
from flwr.proto.fleet_pb2 import ActivateNodeRequest, PullMessagesRequest
from flwr.proto.node_pb2 import Node
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

pytestmark = pytest.mark.slow


class Recorder:
    """See requests as they are sent, signature included."""

    def __init__(self):
        self.requests = []

    def intercept(self, context, call_next):
        self.requests.append(context.request)
        return call_next(context)


class RecordingProxy:
    """Pass the bytes of connections on to a server, and keep those that went there."""

    def __init__(self, port):
        self._to, self.recorded = port, bytearray()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            client, _ = self._listening.accept()
            server = socket.create_connection(("127.0.0.1", self._to))
            threading.Thread(target=self._pass, args=(client, server, self.recorded), daemon=True).start()
            threading.Thread(target=self._pass, args=(server, client, None), daemon=True).start()

    def _pass(self, source, target, kept):
        try:
            while content := source.recv(65536):
                if kept is not None:
                    kept += content
                target.sendall(content)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            return


@pytest.fixture
def signing(federation):
    """A running server, and a client that signs as site-1 does; returns (lab, make a client for a port, recorder)."""
    lab = federation(1, rounds=1)
    server = lab.serve()
    server.wait_for("serving on")
    key = load_ssh_private_key((lab.folder / "site-1" / "site.key").read_bytes(), password=None)
    recorder = Recorder()

    def client(port):
        return FleetHttpClient.from_server_address(
            f"127.0.0.1:{port}",
            False,
            str(lab.folder / "site-1" / "ca.pem"),
            interceptors=[NodeAuthHttpInterceptor(key, key.public_key()), recorder],
        )

    return lab, client, recorder, public_key_to_bytes(key.public_key())


def activate(client, key):
    return client.ActivateNode(ActivateNodeRequest(public_key=key, heartbeat_interval=30)).node_id


def test_a_request_in_clear_is_taken_once(signing):
    lab, connect, recorder, key = signing
    with connect(lab.port) as client:
        node = activate(client, key)
        client.PullMessages(PullMessagesRequest(node=Node(node_id=node)))
    with httpx.Client(verify=ssl.create_default_context(cafile=lab.folder / "site-1" / "ca.pem")) as attacker:
        for request in recorder.requests:
            again = attacker.request(request.method, request.url, headers=request.headers, content=request.content)
            assert again.status_code == 503, request.url
        old = recorder.requests[-1]
        headers = dict(old.headers)
        headers[TIMESTAMP_HEADER] = headers[TIMESTAMP_HEADER].replace(
            "T", " "
        )  # another spelling is not what was signed
        assert attacker.request("POST", old.url, headers=headers, content=old.content).status_code == 401
        unsigned = {name: value for name, value in old.headers.items() if not name.startswith("flwr-")}
        assert attacker.request("POST", old.url, headers=unsigned, content=old.content).status_code == 401


def test_bytes_of_a_tls_connection_mean_nothing_to_the_next(signing):
    lab, connect, _, key = signing
    proxy = RecordingProxy(lab.port)
    with connect(proxy.port) as client:
        activate(client, key)
    log = lab.home / "logs" / "superlink.log"

    def requests():
        return log.read_text().count("/v1/fleet/activate-node")

    assert requests() == 1
    with socket.create_connection(("127.0.0.1", lab.port)) as attacker:
        attacker.sendall(bytes(proxy.recorded))
        attacker.settimeout(10)
        answer = bytearray()
        try:
            while content := attacker.recv(65536):
                answer += content
        except OSError:
            pass
    assert answer[:1] in (b"", b"\x15", b"\x16")  # nothing, an alert, or the server's half of a new handshake
    time.sleep(1)
    assert requests() == 1


def test_control_is_not_served_to_sites(signing):
    lab, _, _, _ = signing
    with httpx.Client(verify=ssl.create_default_context(cafile=lab.folder / "site-1" / "ca.pem")) as stranger:
        for path in ("/v1/control/register-node", "/v1/control/start-run", "/v1/runtime/acquire-task", "/docs"):
            answer = stranger.post(f"https://127.0.0.1:{lab.port}{path}", content=b"")
            assert answer.status_code == 403, path
