"""Network namespaces: hosts with addresses of their own, on one switch, whose links are slow and can be cut.

Needs root, iproute2 and a kernel with network namespaces; the switch is a bridge within the server's namespace.
"""

import os
import subprocess
from collections.abc import Sequence

NETWORK = "10.77.31"
SERVER = f"{NETWORK}.1"


def can_be_made() -> bool:
    """Return whether this user may make a namespace with a link."""
    name = f"fedcmp-{os.getpid()}"
    try:
        ip("netns", "add", name)
        try:
            ip("-n", name, "link", "add", "left", "type", "veth", "peer", "name", "right")
            ip("-n", name, "link", "add", "switch", "type", "bridge")
        finally:
            ip("netns", "delete", name)
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


class Hosts:
    """A server's namespace and one per site; use as a context manager.

    Args:
        sites: their names.
    """

    def __init__(self, sites: Sequence[str]) -> None:
        self._sites, self._mark = list(sites), str(os.getpid())

    def __enter__(self) -> "Hosts":
        server = self._name("server")
        ip("netns", "add", server)
        ip("-n", server, "link", "set", "lo", "up")
        ip("-n", server, "link", "add", "switch", "type", "bridge")
        ip("-n", server, "address", "add", f"{SERVER}/24", "dev", "switch")
        ip("-n", server, "link", "set", "switch", "up")
        for number, site in enumerate(self._sites):
            own, port = self._name(site), f"port{number}"
            ip("netns", "add", own)
            ip("-n", own, "link", "set", "lo", "up")
            ip("-n", own, "link", "add", "cable", "type", "veth", "peer", "name", port, "netns", server)
            ip("-n", own, "address", "add", f"{NETWORK}.{10 + number}/24", "dev", "cable")
            ip("-n", own, "link", "set", "cable", "up")
            ip("-n", server, "link", "set", port, "master", "switch", "up")
        return self

    def __exit__(self, *_: object) -> None:
        for name in ["server", *self._sites]:
            subprocess.run(["ip", "netns", "delete", self._name(name)], capture_output=True)

    def at(self, name: str, *command: str) -> list[str]:
        """Return the command that runs another one on a host; it has the other one's process number."""
        return ["ip", "netns", "exec", self._name(name), *command]

    def cut(self, site: str) -> None:
        """Pull a site's cable."""
        ip("-n", self._name(site), "link", "set", "cable", "down")

    def heal(self, site: str) -> None:
        """Put it back."""
        ip("-n", self._name(site), "link", "set", "cable", "up")

    def slow(self, site: str, megabits: float) -> None:
        """Let a site's cable carry so many Mbit/s in either direction."""
        number = self._sites.index(site)
        for name, device in ((self._name(site), "cable"), (self._name("server"), f"port{number}")):
            rate = ["rate", f"{megabits}mbit", "burst", "16kb", "latency", "500ms"]
            command = ["tc", "-n", name, "qdisc", "add", "dev", device, "root", "tbf", *rate]
            subprocess.run(command, check=True, capture_output=True)

    def _name(self, name: str) -> str:
        return f"fedcmp-{self._mark}-{name}"
