"""An edge server's own half below: the SuperLink that its sites connect to, and the app that sums for them.

`fedcmp join EDGE.toml` runs it in the place of a site's trainer:

    SuperNode       joining.py; fetches what the server above asks, brings answers back
    apps            hands each message to the socket that edge_app.py listens on
    edge_server     this process: a SuperLink and the run on it (hosting.py)
        SuperLink, apps, edge_app.py

It has no run of its own that could end: it works for whatever the server above asks, until SIGTERM.
"""

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from fedcmp.deployment.certificates import check_certificates
from fedcmp.deployment.edge_file import EdgeServer, read_edge
from fedcmp.deployment.hosting import Address, Hosted, check_port, host
from fedcmp.deployment.server_folder import CLIENT_APP, open_server_folder
from fedcmp.deployment.supervised import MISTAKE, MISTAKE_CODE, tell
from fedcmp.errors import UserError, WorkerDied
from fedcmp.locks import alone_in
from fedcmp.workers.parent import end_with_parent

EDGE_SERVER = "fedcmp.deployment.edge_server"
_EDGE_APP = "fedcmp.deployment.edge_app:app"
_LINGERING = 10.0  # seconds in which the port of one that was killed becomes free


def serve_edge(path: Path, edge: EdgeServer, socket_path: Path) -> None:
    """Serve an edge's sites until SIGTERM.

    Args:
        path: EDGE.toml, for messages.
        edge: what is in it.
        socket_path: where the server's requests come in.

    Raises:
        UserError: certificates are missing, the port is taken, or another process works in the folder.
        WorkerDied: a process died again and again.
    """
    folder = open_server_folder(edge.edge.home)
    for remark in check_certificates(folder.certificates):
        tell(remark)
    address = Address(edge.edge.address, edge.edge.port)
    with alone_in(folder.home, f"{folder.home}: another server works there; stop it first"):
        _wait_for_port(path, address)
        config = {
            "home": str(folder.home),
            "socket": str(socket_path),
            "folder": str(edge.site.folder / "rounds"),
        }
        facts = {"edge": edge.site.name, "place": str(edge.site.folder)}
        host(folder, Hosted(_EDGE_APP, CLIENT_APP, lambda _: config, facts), address, tell)


def _wait_for_port(path: Path, address: Address) -> None:
    until = time.monotonic() + _LINGERING
    while True:
        try:
            check_port(address, f"{path}: edge.address = {address.host!r}, edge.port = {address.port}")
            return
        except UserError:
            if time.monotonic() > until:
                raise
            time.sleep(0.5)


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve: `python -m fedcmp.deployment.edge_server EDGE.toml --socket PATH`."""
    parser = argparse.ArgumentParser(prog=f"python -m {EDGE_SERVER}")
    parser.add_argument("edge", type=Path)
    parser.add_argument("--socket", type=Path, required=True)
    given = parser.parse_args(arguments)
    end_with_parent()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # its processes end with it
    try:
        serve_edge(given.edge, read_edge(given.edge), given.socket)
    except (UserError, WorkerDied) as error:
        tell(f"{MISTAKE}{error}")  # the supervisor's words
        raise SystemExit(MISTAKE_CODE if isinstance(error, UserError) else 1) from None


if __name__ == "__main__":
    main()
