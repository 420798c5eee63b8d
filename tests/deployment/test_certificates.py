import socket
import ssl
import stat
import threading
from datetime import UTC, datetime, timedelta

import pytest

from fedcmp.deployment import certificates as module
from fedcmp.deployment.certificates import (
    LOOPBACK,
    Certificates,
    check_certificates,
    make_authority,
    make_server_certificate,
    server_hosts,
)
from fedcmp.deployment.supernode import reach
from fedcmp.errors import UserError


@pytest.fixture
def made(tmp_path):
    certificates = make_authority(tmp_path / "server" / "certificates")
    make_server_certificate(certificates, ["fl.example.org", "10.1.2.3"])
    return certificates


@pytest.fixture
def listening():
    """Serve TLS with some certificates; returns the port."""
    sockets = []

    def serve(certificates):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates.server, certificates.server_key)
        server = socket.create_server(("127.0.0.1", 0))
        sockets.append(server)

        def answer():
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                try:
                    context.wrap_socket(connection, server_side=True).close()
                except OSError:
                    connection.close()

        threading.Thread(target=answer, daemon=True).start()
        return server.getsockname()[1]

    yield serve
    for one in sockets:
        one.close()


def test_keys_are_private_and_certificates_name_all_hosts(made):
    for key in (made.authority_key, made.server_key):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(made.folder.stat().st_mode) == 0o700
    named = server_hosts(module.read_server_certificate(made))
    assert set(named) == {"fl.example.org", "10.1.2.3", *LOOPBACK}
    assert check_certificates(made) == []


def test_tls_accepts_the_server_under_its_names_only(made, listening):
    port = listening(made)
    assert reach(f"127.0.0.1:{port}", made.authority).outcome == "yes"
    assert reach(f"localhost:{port}", made.authority).outcome == "yes"


def test_a_certificate_of_another_authority_is_told_apart_from_a_server_that_is_not_there(made, listening, tmp_path):
    port = listening(made)
    other = make_authority(tmp_path / "other")
    found = reach(f"127.0.0.1:{port}", other.authority)
    assert found.outcome == "untrusted"
    assert "is not from the authority in" in found.reason
    found = reach("127.0.0.1:1", made.authority)
    assert (found.outcome, found.reason) == ("no", "127.0.0.1:1: Connection refused")


def test_a_host_that_the_certificate_does_not_name_is_told(tmp_path, listening, monkeypatch):
    monkeypatch.setattr(module, "LOOPBACK", ("localhost",))
    certificates = make_authority(tmp_path / "server" / "certificates")
    make_server_certificate(certificates, ["fl.example.org"])
    found = reach(f"127.0.0.1:{listening(certificates)}", certificates.authority)
    assert found.outcome == "untrusted"
    assert "does not name '127.0.0.1'" in found.reason
    assert "--renew --address HOST" in found.reason


def test_a_server_that_speaks_no_tls_is_told(made):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            connection, _ = server.accept()
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            connection.close()

        threading.Thread(target=answer, daemon=True).start()
        assert reach(f"127.0.0.1:{server.getsockname()[1]}", made.authority).outcome == "untrusted"


def test_a_renewed_certificate_has_a_new_key_and_the_old_one_is_kept(made):
    before = made.server.read_bytes(), made.server_key.read_bytes(), made.authority.read_bytes()
    with pytest.raises(UserError, match="is there already"):
        make_server_certificate(made, ["b.example.org"])
    make_server_certificate(made, ["b.example.org"], renew=True)
    assert made.authority.read_bytes() == before[2]
    assert made.server_key.read_bytes() != before[1]
    assert {path.read_bytes() for path in made.folder.glob("server.*.until-*")} == set(before[:2])
    assert "b.example.org" in server_hosts(module.read_server_certificate(made))
    assert check_certificates(made) == []


def test_an_authority_is_made_once(made):
    before = made.authority.read_bytes()
    assert make_authority(made.folder) == made
    assert made.authority.read_bytes() == before


def test_certificates_that_do_not_belong_together_are_refused(made, tmp_path):
    other = make_authority(tmp_path / "other")
    make_server_certificate(other, ["fl.example.org"])
    key = made.server_key.read_bytes()
    made.server_key.write_bytes(other.server_key.read_bytes())
    with pytest.raises(UserError, match="is not the key of"):
        check_certificates(made)
    made.server_key.write_bytes(key)
    made.server.write_bytes(other.server.read_bytes())
    with pytest.raises(UserError, match="is not signed by"):
        check_certificates(made)
    made.server.write_bytes(b"nothing")
    with pytest.raises(UserError, match="is not a readable certificate"):
        check_certificates(made)
    with pytest.raises(UserError, match="fedcmp keys server"):
        check_certificates(Certificates(tmp_path / "none" / "certificates"))


@pytest.mark.parametrize(("days", "said"), [(-1, "has expired"), (10, "expires on")])
def test_a_certificate_that_ends_is_told_in_time(tmp_path, monkeypatch, days, said):
    monkeypatch.setattr(module, "SERVER_DAYS", days)
    certificates = make_authority(tmp_path / "server" / "certificates")
    made = make_server_certificate(certificates, ["fl.example.org"])
    assert abs(made.not_valid_after_utc - datetime.now(UTC) - timedelta(days=days)) < timedelta(minutes=5)
    if days < 0:
        with pytest.raises(UserError, match=said):
            check_certificates(certificates)
    else:
        (remark,) = check_certificates(certificates)
        assert said in remark
        assert "--renew" in remark


@pytest.mark.parametrize("host", ["https://a.org", "a b", ""])
def test_what_is_no_host_gets_no_certificate(tmp_path, host):
    certificates = make_authority(tmp_path)
    with pytest.raises(UserError, match="--address"):
        make_server_certificate(certificates, [host])
