"""A federation between hosts with addresses of their own: TLS and keys, a slow link, a cable that is pulled."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fedcmp.config import load_recipe
from fedcmp.deployment.certificates import make_server_certificate
from fedcmp.deployment.lab import new_lab
from fedcmp.deployment.server_folder import ServerFolder
from fedcmp.deployment.server_run import run_server
from fedcmp.deployment.site_file import read_site
from fedcmp.deployment.trainer import Trainer
from tests.deployment import namespaces
from tests.deployment.federation import ROOT, Running
from tests.deployment.local import LocalLink, one_at_a_time, short_sleep

SITES = ["site-1", "site-2", "site-3"]
PORT = 8443


def started(hosts, folder: Path, host: str, *arguments: str) -> Running:
    log = folder / f"{host}.out"
    with log.open("wb") as out:
        process = subprocess.Popen(
            hosts.at(host, sys.executable, "-m", "fedcmp", *arguments),
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]), "OMP_NUM_THREADS": "1"},
        )
    return Running(process, log)


def undisturbed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """The projector of the same recipe with the same sites in one process."""
    one_at_a_time(monkeypatch)
    sites = {name: read_site(folder / name / "SITE.toml", present=False) for name in SITES}
    for name, site in sites.items():
        own = site.site.model_copy(update={"folder": folder / "undisturbed" / name})
        sites[name] = site.model_copy(update={"site": own})
    recipe = load_recipe(folder / "server" / "federation.toml")
    run = recipe.run.model_copy(update={"folder": folder / "undisturbed" / "server"})
    link = LocalLink({name: Trainer(site) for name, site in sites.items()})
    place = run_server(
        recipe.model_copy(update={"run": run}), link, resume=False, say=print, sleep=short_sleep, pause=0.01
    )
    return projector(place)


def projector(run: Path) -> bytes:
    *_, last = sorted((run / "checkpoints").glob("round-*"))
    return (last / "projector.safetensors").read_bytes()


@pytest.mark.slow
@pytest.mark.skipif(not namespaces.can_be_made(), reason="this user may not make network namespaces")
def test_hosts_with_a_slow_and_a_broken_link_end_as_one_process_does(tmp_path, monkeypatch):
    folder = tmp_path / "lab"
    new_lab(folder, sites=len(SITES), pairs=60, port=PORT)
    home = ServerFolder(folder / "server")
    make_server_certificate(home.certificates, [namespaces.SERVER], renew=True)
    recipe = home.home / "federation.toml"
    text = recipe.read_text().replace('["fedavg", "shared-basis"]', '["moon"]')
    recipe.write_text(text.replace("min_clients = 2", "min_clients = 3") + "poll_seconds = 5\n")
    for name in SITES:
        path = folder / name / "SITE.toml"
        path.write_text(path.read_text().replace("127.0.0.1", namespaces.SERVER).replace('"fedcmp"', '"moon"'))
    running = []
    with namespaces.Hosts(SITES) as hosts:
        hosts.slow("site-3", 1.0)
        try:
            address = ["--address", namespaces.SERVER, "--port", str(PORT)]
            server = started(hosts, folder, "server", "serve", str(recipe), *address)
            running.append(server)
            running += [started(hosts, folder, name, "join", str(folder / name / "SITE.toml")) for name in SITES]
            server.wait_for("moon, round 1 of 3", 120)
            hosts.cut("site-2")
            time.sleep(20)
            assert "moon, round 3 of 3" not in server.text  # which needs all three
            hosts.heal("site-2")
            assert server.ends(240) == 0, server.text
        finally:
            for each in running:
                if each.process.poll() is None:
                    each.process.send_signal(signal.SIGTERM)
            for each in running:
                each.process.wait(60)
                print(each.text)
    assert projector(home.home / "runs" / "lab") == undisturbed(folder, monkeypatch)
