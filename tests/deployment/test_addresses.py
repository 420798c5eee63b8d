import socket

import pytest

from fedcmp.deployment.addresses import check_address, check_host, free_port, joined_address, split_address


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("fl.example.org:8443", ("fl.example.org", 8443)),
        ("10.0.0.1:1", ("10.0.0.1", 1)),
        ("[::1]:65535", ("::1", 65535)),
    ],
)
def test_an_address_is_split_and_joined(text, parts):
    assert split_address(text) == parts
    assert check_address(text) == text
    assert joined_address(*parts) == text


@pytest.mark.parametrize(
    "text", ["", "host", "host:", ":80", "host:x", "::1:80", "host:0", "host:65536", "a b:80", "-a:1"]
)
def test_what_is_no_address_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        check_address(text)


@pytest.mark.parametrize("host", ["https://a", "a/b", "a..b", "", "a_b", "a" * 64])
def test_what_is_no_host_is_refused(host):
    with pytest.raises(ValueError, match="neither a host's name nor an IP address"):
        check_host(host)


def test_a_free_port_can_be_listened_on():
    with socket.create_server(("127.0.0.1", free_port())):
        pass
