"""The server's folder, HOME: everything that a federation's server keeps.

federation.toml     a recipe; it may be elsewhere
certificates/       the authority's and the server's certificates and keys (certificates.py)
sites/NAME.pub      registered keys of sites (site_keys.py)
roster.json         node number -> site's name, renewed at every start and when a key is added or removed
serving.json        what runs now: process, address, run; gone when nothing runs
app/                the Flower app that the SuperLink is asked to run: a pyproject.toml, no code
flower/             Flower's own folder (FLWR_HOME), with the connection "lab" for `flwr ls lab` and the like
logs/               superlink.log, apps.log
runs/               the runs, unless run.folder says otherwise
"""

import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from fedcmp.config import Recipe
from fedcmp.deployment.certificates import Certificates
from fedcmp.deployment.private_files import private_folder
from fedcmp.errors import UserError
from fedcmp.files import write_whole

SERVER_APP = "fedcmp.deployment.server_app:app"
CLIENT_APP = "fedcmp.federation.flower.client_app:app"
CONNECTION = "lab"  # the SuperLink's name in Flower's own settings

# Flower reports to nobody, asks for no updates and installs nothing
QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
}


@dataclass(frozen=True)
class ServerFolder:
    """Where things are in HOME.

    Attributes:
        home: absolute.
    """

    home: Path

    @property
    def certificates(self) -> Certificates:
        """Return the certificates."""
        return Certificates(self.home / "certificates")

    @property
    def sites(self) -> Path:
        """Return the folder of registered keys."""
        return self.home / "sites"

    @property
    def roster(self) -> Path:
        """Return the file that says which node is which site."""
        return self.home / "roster.json"

    @property
    def serving(self) -> Path:
        """Return the file that says what runs now."""
        return self.home / "serving.json"

    @property
    def app(self) -> Path:
        """Return the folder of the Flower app."""
        return self.home / "app"

    @property
    def flower(self) -> Path:
        """Return Flower's own folder."""
        return self.home / "flower"

    @property
    def logs(self) -> Path:
        """Return the folder of logs."""
        return self.home / "logs"

    @property
    def secret(self) -> Path:
        """Return the file with the secret between the SuperLink and the process that starts its apps."""
        return self.flower / "apps.secret"

    def environment(self) -> dict[str, str]:
        """Return the variables of all processes of Flower that belong to this folder."""
        return {**QUIET, "FLWR_HOME": str(self.flower)}

    def run_place(self, recipe: Recipe) -> Path:
        """Return the folder of a recipe's run; a relative run.folder starts at HOME."""
        return self.home / recipe.run.place


def open_server_folder(home: Path) -> ServerFolder:
    """Return a server's folder, absolute; it is made where it is missing.

    Raises:
        UserError: a file is in its way, or it cannot be written.
    """
    folder = ServerFolder(Path(os.path.abspath(home)))  # noqa: PTH100 - resolve() would leave through links
    private_folder(folder.home)
    if not os.access(folder.home, os.W_OK | os.X_OK):
        raise UserError(f"{home}: cannot be written; name another folder, or change its rights")
    return folder


def write_roster(folder: ServerFolder, roster: dict[int, str]) -> None:
    """Write which node is which site: the server trusts no name that a message brings."""
    content = {str(node): name for node, name in sorted(roster.items(), key=lambda entry: entry[1])}
    write_whole(folder.roster, json.dumps(content, indent=1).encode() + b"\n")


def read_roster(home: Path) -> dict[int, str]:
    """Return node number -> site's name, as the supervisor wrote it last.

    Raises:
        UserError: it is missing or no roster.
    """
    path = home / "roster.json"
    try:
        return {int(node): str(name) for node, name in json.loads(path.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: is not a readable roster ({error}); `fedcmp serve` writes it") from None


def write_serving(folder: ServerFolder, **facts: Any) -> None:
    """Write what runs now, for `fedcmp status`."""
    write_whole(folder.serving, json.dumps(facts, indent=1).encode() + b"\n", durable=False)


def write_app(folder: ServerFolder, server_app: str, client_app: str) -> None:
    """Write the Flower app: it names what is installed here and holds no code.

    Args:
        folder: the server's.
        server_app: "module:name" of the ServerApp.
        client_app: that of the ClientApp, which sites take from their own installation whatever is written here.
    """
    private_folder(folder.app)
    content = {
        "project": {"name": "fedcmp-federation", "version": "1.0.0", "license": "Apache-2.0", "dependencies": []},
        "tool": {
            "flwr": {
                "app": {
                    "publisher": "fedcmp",
                    "components": {"serverapp": server_app, "clientapp": client_app},
                    "config": {"recipe": "", "home": "", "resume": False, "socket": "", "folder": ""},
                }
            }
        },
    }
    write_whole(folder.app / "pyproject.toml", tomli_w.dumps(content).encode())


def write_flower_settings(folder: ServerFolder, address: str) -> None:
    """Write Flower's settings: the SuperLink's private door, for this supervisor's apps and for `flwr`.

    Args:
        folder: the server's.
        address: "host:port" on the loopback.
    """
    private_folder(folder.flower)
    connection = {"address": address, "root-certificates": str(folder.certificates.authority)}
    content = {"superlink": {"default": CONNECTION, CONNECTION: connection}}
    write_whole(folder.flower / "config.toml", tomli_w.dumps(content).encode())


def write_secret(path: Path) -> None:
    """Write a new secret for two processes of this machine; only the user can read it."""
    private_folder(path.parent)
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
        file.write(secrets.token_bytes(32))
