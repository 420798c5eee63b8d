"""Our app under Flower's own commands, without `fedcmp serve` and `fedcmp join`: flower-superlink, flwr run."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import tomli_w

from fedcmp.deployment.addresses import free_port
from fedcmp.deployment.certificates import make_authority, make_server_certificate
from fedcmp.deployment.server_folder import (
    CLIENT_APP,
    QUIET,
    SERVER_APP,
    open_server_folder,
    write_app,
    write_flower_settings,
    write_roster,
)
from fedcmp.deployment.site_keys import make_site_key, public_path
from tests.deployment.federation import PATIENCE, gone
from tests.deployment.local import pairs_of, recipe_of
from tests.deployment.test_server_run import projector

pytestmark = pytest.mark.slow
BIN = Path(sys.executable).parent


def until(there: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds * PATIENCE
    while not there():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_flwr_run_takes_our_app(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    files = tmp_path_factory.mktemp("sites")
    home = open_server_folder(tmp_path / "server")
    certificates = make_authority(home.certificates.folder)
    make_server_certificate(certificates, ["127.0.0.1"])
    port, address = free_port(), "127.0.0.1"
    write_app(home, SERVER_APP, CLIENT_APP)
    write_flower_settings(home, f"{address}:{port}")
    content = json.loads(recipe_of(tmp_path / "runs", "fedavg").model_dump_json(exclude_none=True))
    content["deployment"]["sites"] = ["north"]
    content["federation"]["min_clients"] = 1
    recipe = tmp_path / "federation.toml"
    recipe.write_text(tomli_w.dumps(content))
    site = tmp_path / "north"
    site.mkdir(mode=0o700)
    make_site_key(site / "site.key", "north")
    (site / "ca.pem").write_bytes(certificates.authority.read_bytes())
    (site / "SITE.toml").write_text(
        tomli_w.dumps({"site": {"name": "north", "server": f"{address}:{port}"}, "data": pairs_of(files, "north")})
    )
    environment = {**os.environ, **QUIET, "FLWR_HOME": str(home.flower), "PATH": f"{BIN}:{os.environ['PATH']}"}
    processes: list[subprocess.Popen[bytes]] = []

    def start(name: str, *command: str) -> Path:
        log = tmp_path / f"{name}.log"
        with log.open("wb") as out:
            processes.append(subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment))
        return log

    def flwr(*arguments: str) -> str:
        done = subprocess.run(["flwr", *arguments], env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    socket = site / "trainer.sock"
    try:
        start(
            "superlink",
            *("flower-superlink", "--host", address, "--port", str(port), "--enable-supernode-auth"),
            *("--ssl-ca-certfile", str(certificates.authority), "--ssl-certfile", str(certificates.server)),
            *("--ssl-keyfile", str(certificates.server_key), "--disable-runtime-dependency-installation"),
        )
        log = start(
            "trainer",
            sys.executable,
            "-m",
            "fedcmp.deployment.trainer",
            str(site / "SITE.toml"),
            "--socket",
            str(socket),
        )
        until(lambda: "ready" in log.read_text())
        registered = json.loads(
            flwr("supernode", "register", str(public_path(site / "site.key")), "lab", "--format", "json")
        )
        write_roster(home, {int(registered["node-id"]): "north"})
        start(
            "supernode",
            *("flower-supernode", "--superlink", f"{address}:{port}", "--root-certificates", str(site / "ca.pem")),
            *("--auth-supernode-private-key", str(site / "site.key"), "--port", str(free_port())),
            *("--node-config", f'socket="{socket}"'),
        )
        flwr(
            *("run", str(home.app), "lab", "--stream", "--run-config"),
            f'recipe="{recipe}" home="{home.home}" resume=false',
        )
        assert projector(tmp_path / "runs" / "run")
        (kept,) = (site / "state" / "models").glob("*/fedavg")
        assert projector(kept) == projector(tmp_path / "runs" / "run")
    finally:
        for process in reversed(processes):
            process.terminate()
        for process in processes:
            process.wait(timeout=60)
        gone([process.pid for process in processes])
