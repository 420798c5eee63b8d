"""An edge server as processes of its own: two sites beneath it, one at the server; everything on the loopback."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
import tomli_w

from fedcmp.deployment.addresses import free_port
from fedcmp.deployment.certificates import make_authority, make_server_certificate
from fedcmp.deployment.server_folder import ServerFolder
from fedcmp.deployment.site_keys import make_site_key, public_path, register_site
from tests.deployment.federation import Federation, command_of, descendants, make_federation
from tests.deployment.local import NAMES, pairs_of, recipe_of
from tests.deployment.test_on_flower import assert_as_simulated, ended, fedcmp

pytestmark = pytest.mark.slow

METHODS = ["fedavg", "scaffold", "shared-basis"]
EDGE = "north"


def make_edge(federation: Federation, beneath: list[str]) -> tuple[Path, int]:
    """EDGE.toml of an edge that the server knows and that knows its sites, and the port that these connect to."""
    folder, port = federation.folder / EDGE, free_port()
    server = ServerFolder(folder / "server")
    server.home.mkdir(parents=True)
    certificates = make_authority(server.certificates.folder)
    make_server_certificate(certificates, ["127.0.0.1"])
    for name in beneath:
        register_site(server.sites, name, public_path(federation.folder / name / "site.key"))
        (federation.folder / name / "ca.pem").write_bytes(certificates.authority.read_bytes())
    above = ServerFolder(federation.home)
    (folder / "ca.pem").write_bytes(above.certificates.authority.read_bytes())
    make_site_key(folder / "site.key", EDGE)
    register_site(above.sites, EDGE, public_path(folder / "site.key"))
    for name in beneath:
        (above.sites / f"{name}.pub").unlink()  # the server need not know them
    path = folder / "EDGE.toml"
    path.write_text(
        tomli_w.dumps(
            {
                "site": {"name": EDGE, "server": f"127.0.0.1:{federation.port}"},
                "edge": {"address": "127.0.0.1", "port": port},
            }
        )
    )
    return path, port


def test_a_tree_of_processes_ends_with_the_flat_projector_though_its_edge_is_killed(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    files = tmp_path_factory.mktemp("sites")
    (tmp_path / "lab").mkdir()
    lab = make_federation(tmp_path / "lab", 3)
    beneath = lab.sites[:2]
    edge_file, edge_port = make_edge(lab, beneath)
    content = json.loads(recipe_of(lab.home / "runs", *METHODS).model_dump_json(exclude_none=True))
    content["run"] = {"name": "run", "methods": METHODS, "seed": 3}
    content["deployment"] |= {"sites": lab.sites, "edges": {EDGE: beneath}}
    lab.recipe.write_text(tomli_w.dumps(content))
    for site, name in zip(lab.sites, NAMES, strict=True):
        port = edge_port if site in beneath else lab.port
        identity = {"name": site, "server": f"127.0.0.1:{port}"}
        lab.site_file(site).write_text(tomli_w.dumps({"site": identity, "data": pairs_of(files, name)}))
    edge = fedcmp(lab, EDGE, "join", str(edge_file))
    sites = [fedcmp(lab, name, "join", str(lab.site_file(name))) for name in lab.sites]
    server = fedcmp(lab, "serve", "serve", str(lab.recipe), "--address", "127.0.0.1", "--port", str(lab.port))
    with ended(lab):
        edge.wait_for("round 1: the sum of", 300)
        time.sleep(1)  # in the next round
        started = [pid for pid in descendants(edge.process.pid) if "edge_server" in command_of(pid)]
        assert len(started) == 1
        os.kill(started[0], signal.SIGKILL)
        edge.wait_for("the edge server died", 60)
        assert server.ends(600) == 0, server.text
    assert_as_simulated(lab, files, tmp_path / "simulation", METHODS)
    for site in sites:
        assert site.text.count("model loaded") == 1, site.text
    assert not descendants(os.getpid())
