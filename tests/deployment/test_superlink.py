import asyncio
import base64
import os
import socket
import subprocess
import sys

import pytest

from fedcmp.deployment import superlink
from fedcmp.deployment.superlink import Doors, Signatures, user_of

CLIENT, PRIVATE, PUBLIC = ("127.0.0.1", 40000), ("127.0.0.1", 5000), ("127.0.0.1", 8443)


def headers(key=b"key", time=b"2026-01-01T00:00:00"):
    return [(b"flwr-public-key", base64.b64encode(key)), (b"flwr-timestamp", time), (b"flwr-signature", b"s")]


def ask(doors, path, server, given=()):
    """The status that one request is answered with."""
    sent = []

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "path": path, "server": server, "client": CLIENT, "headers": list(given)}
    asyncio.run(doors(scope, None, send))
    return sent[0]["status"]


def answering(status):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    return app


@pytest.mark.parametrize(
    "path", ["/v1/control/start-run", "/v1/runtime/acquire-task", "/docs", "/openapi.json", "/", "/health"]
)
def test_the_public_door_lets_only_fleet_through(path):
    assert ask(Doors(answering(200), 8443, os.getuid()), path, PUBLIC) == 403
    assert ask(Doors(answering(200), 8443, os.getuid()), "/v1/fleet/pull-messages", PUBLIC, headers()) == 200


@pytest.mark.parametrize(("owner", "status"), [(1000, 200), (1001, 403), (None, 403)])
def test_the_private_door_is_the_owners(monkeypatch, owner, status):
    monkeypatch.setattr(superlink, "user_of", lambda client, server: owner)
    doors = Doors(answering(200), 8443, 1000)
    assert ask(doors, "/v1/control/start-run", PRIVATE) == status
    assert ask(doors, "/v1/runtime/pull-task-input", PRIVATE) == 200  # asks for a token itself


def test_a_connection_that_says_nothing_about_its_ends_is_refused():
    doors = Doors(answering(200), 8443, os.getuid())
    assert ask(doors, "/v1/control/start-run", None) == 403


def test_a_request_replayed_byte_for_byte_is_refused():
    doors = Doors(answering(200), 8443, os.getuid())
    assert ask(doors, "/v1/fleet/push-messages", PUBLIC, headers()) == 200
    assert ask(doors, "/v1/fleet/push-messages", PUBLIC, headers()) == 503
    assert ask(doors, "/v1/fleet/pull-messages", PUBLIC, headers()) == 503  # nor does it open another path
    assert ask(doors, "/v1/fleet/push-messages", PRIVATE, headers()) == 503  # nor the other door
    assert ask(doors, "/v1/fleet/push-messages", PUBLIC, headers(time=b"2026-01-01T00:00:01")) == 200
    assert ask(doors, "/v1/fleet/push-messages", PUBLIC, headers(key=b"other")) == 200


def test_a_signature_is_not_made_new_by_other_spellings():
    signatures = Signatures()
    (key, *rest) = headers(key=b"k")
    assert base64.b64decode(b"aw==") == base64.b64decode(b"ax==") == b"k"
    assert signatures.use([(key[0], b"aw=="), *rest])
    assert signatures.use([(key[0], b"ax=="), *rest]) is None
    assert signatures.use([*headers(time=b"new"), (b"flwr-timestamp", b"another")]) is None


def test_what_the_superlink_does_not_accept_is_not_remembered():
    doors = Doors(answering(401), 8443, os.getuid())
    for _ in range(3):
        assert ask(doors, "/v1/fleet/pull-messages", PUBLIC, headers()) == 401
    assert doors._signatures._used == {}
    assert ask(doors, "/v1/fleet/pull-messages", PUBLIC) == 401  # not signed at all: the SuperLink's to refuse


def test_signatures_are_forgotten_when_the_superlink_would_refuse_them_itself(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(superlink.time, "monotonic", lambda: now[0])
    signatures = Signatures(400)
    for second in range(1000):
        now[0] = float(second)
        assert signatures.use(headers(time=str(second).encode()))
    assert len(signatures._used) <= 401
    assert signatures.use(headers(time=b"999")) is None


def test_flower_refuses_a_signature_that_is_older_than_what_is_remembered():
    from flwr.common.constant import SYSTEM_TIME_TOLERANCE, TIMESTAMP_TOLERANCE

    assert Signatures()._seconds > TIMESTAMP_TOLERANCE + 2 * SYSTEM_TIME_TOLERANCE


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_system_says_whose_a_connection_is(host):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as server:
        try:
            server.bind((host, 0))
        except OSError:
            pytest.skip("no such loopback here")
        server.listen()
        with socket.create_connection(server.getsockname()[:2]) as client:
            answering_end, _ = server.accept()
            with answering_end:
                ends = client.getsockname()[:2], server.getsockname()[:2]
                assert user_of(*ends) == os.getuid()
                assert user_of((host, 1), ends[1]) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_another_users_connection_is_told():
    code = (
        "import encodings.idna, os, socket, sys, time; os.setuid(65534)\n"  # who may not read the library
        "connection = socket.create_connection(('127.0.0.1', int(sys.argv[1])))\n"
        "print(*connection.getsockname(), flush=True); time.sleep(30)"
    )
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        server.settimeout(20)
        other = subprocess.Popen([sys.executable, "-c", code, str(port)], stdout=subprocess.PIPE, text=True)
        try:
            connection, _ = server.accept()
            with connection:
                host, own = other.stdout.readline().split()
                assert user_of((host, int(own)), ("127.0.0.1", port)) == 65534
        finally:
            other.kill()
            other.wait()
