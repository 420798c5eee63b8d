"""Addresses of a server: "host:port", checked before anything is started with them."""

import re
import socket

_NAME = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*\.?")


def check_address(text: str) -> str:
    """Refuse what is not "host:port".

    Raises:
        ValueError: says what is missing.
    """
    host, port = split_address(text)
    check_host(host)
    if not 1 <= port <= 65535:
        raise ValueError('must be "host:port" with a port of 1 to 65535')
    return text


def split_address(text: str) -> tuple[str, int]:
    """Return host and port; an IPv6 address stands in brackets, as in "[::1]:8443".

    Raises:
        ValueError: there is no host, or no number behind the last colon.
    """
    host, colon, port = text.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    if not colon or not bare or not re.fullmatch(r"[0-9]{1,5}", port) or (":" in host and not host.startswith("[")):
        raise ValueError('must be "host:port", for example "fl.example.org:8443"; an IPv6 address in brackets')
    return bare, int(port)


def joined_address(host: str, port: int) -> str:
    """Return "host:port", an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def check_host(host: str) -> str:
    """Refuse what is neither an IP address nor a name.

    Raises:
        ValueError: says so.
    """
    if not is_ip(host) and not (_NAME.fullmatch(host) and len(host) <= 253):
        raise ValueError(f"{host!r} is neither a host's name nor an IP address; give it without https:// and port")
    return host


def is_ip(host: str) -> bool:
    """Return whether a host is an IPv4 or IPv6 address."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except OSError:
            continue
        return True
    return False


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port that nobody listens on now."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
