"""The whole thing on the loopback: a server and three sites as processes of their own, Flower between them."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import tomli_w

from tests.deployment.federation import Federation, Running, make_federation
from tests.deployment.local import NAMES, pairs_of, recipe_of
from tests.deployment.test_server_run import METHODS, projector, simulated

pytestmark = pytest.mark.slow


def fedcmp(federation: Federation, name: str, *arguments: str) -> Running:
    log = federation.folder / f"{name}.out"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "fedcmp", *arguments], stdout=out, stderr=subprocess.STDOUT, cwd=federation.folder
        )
    federation.running.append(Running(process, log))
    return federation.running[-1]


def write_files(federation: Federation, files: Path) -> None:
    """The recipe of `recipe_of` and each site's SITE.toml, every site's pairs in another format."""
    content = json.loads(recipe_of(federation.home / "runs", *METHODS).model_dump_json(exclude_none=True))
    content["run"] = {"name": "run", "methods": METHODS, "seed": 3}
    content["deployment"]["sites"] = federation.sites
    federation.recipe.write_text(tomli_w.dumps(content))
    for site, name in zip(federation.sites, NAMES, strict=True):
        path = federation.site_file(site)
        path.write_text(
            tomli_w.dumps(
                {
                    "site": {"name": site, "server": f"127.0.0.1:{federation.port}"},
                    "data": pairs_of(files, name),
                }
            )
        )


@contextmanager
def ended(federation: Federation) -> Iterator[None]:
    """End all of its processes, whatever happens."""
    try:
        yield
    finally:
        for running in reversed(federation.running):
            running.end()


def assert_as_simulated(federation: Federation, files: Path, place: Path, methods: list[str]) -> Path:
    """Each method's projector is the simulation's, bit for bit; return the simulation's run."""
    expected = simulated(files, place, *methods)
    deployed = federation.home / "runs" / "run"
    for method in methods:
        assert projector(deployed / method) == projector(expected / method), method
    return expected


def test_three_sites_end_with_the_simulations_projector_for_five_methods(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    files = tmp_path_factory.mktemp("sites")
    (tmp_path / "lab").mkdir()
    lab = make_federation(tmp_path / "lab", 3)
    write_files(lab, files)
    address = ["--address", "127.0.0.1", "--port", str(lab.port)]
    server = fedcmp(lab, "serve", "serve", str(lab.recipe), *address)
    sites = [fedcmp(lab, name, "join", str(lab.site_file(name))) for name in lab.sites]
    with ended(lab):
        assert server.ends(600) == 0, server.text
    expected = assert_as_simulated(lab, files, tmp_path / "simulation", METHODS)
    for name, site in zip(lab.sites, sites, strict=True):
        assert site.text.count("model loaded") == 1  # by the resident trainer, for five methods of two rounds each
        state = lab.folder / name / "state"
        lines = [json.loads(line) for line in (state / "sent.jsonl").read_text().splitlines()]
        assert sum(line["message"] == "reply" for line in lines) >= 2 * len(METHODS)
        assert all(line["bytes"] > 0 and len(line["sha256"]) == 64 for line in lines)
        (kept,) = (state / "models").glob("*/moon")
        assert projector(kept) == projector(expected / "moon")
    out = tmp_path / "of-a-site"
    command = [sys.executable, "-m", "fedcmp", "export", str(kept), str(out)]
    subprocess.run(command, check=True, env=os.environ.copy(), capture_output=True)
    assert (out / "config.json").exists()
