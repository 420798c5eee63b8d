"""A whole deployment in one process: the same projector as the simulation's, whatever happens on the way."""

import json
from pathlib import Path

import pytest

from fedcmp.config import parse_recipe
from fedcmp.deployment.server_run import run_server
from fedcmp.deployment.trainer import Trainer
from fedcmp.simulation.train import train
from tests.deployment.local import NAMES, LocalLink, one_at_a_time, pairs_of, recipe_of, short_sleep, site_of

METHODS = ["fedavg", "fedcmp", "shared-basis", "moon", "scaffold"]


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sites")


@pytest.fixture(autouse=True)
def _loading(monkeypatch: pytest.MonkeyPatch) -> None:
    one_at_a_time(monkeypatch)


def projector(folder: Path) -> bytes:
    *_, checkpoint = sorted((folder / "checkpoints").glob("round-*"))
    return (checkpoint / "projector.safetensors").read_bytes()


def simulated(files: Path, folder: Path, *methods: str) -> Path:
    """The same recipe on one machine that holds all three sites' pairs."""
    recipe = recipe_of(folder, *methods)
    clients = [{"name": name, **pairs_of(files, name, "llava")} for name in NAMES]
    for client in clients:
        del client["format"]
    content = json.loads(recipe.model_dump_json(exclude_none=True))
    del content["deployment"]
    content["data"] = {"held_out": 0.2, "format": "llava", "clients": clients}
    content["scenario"] = {"kind": "given"}
    content["run"] |= {"workers": 1, "cache": str(folder / "cache")}
    return train(parse_recipe(content, "test"), progress=lambda *_: None)


def trainers_of(files: Path, tmp_path: Path) -> dict[str, Trainer]:
    return {name: Trainer(site_of(files, name, tmp_path / name)) for name in NAMES}


def serve(files: Path, tmp_path: Path, *methods: str, link: LocalLink | None = None, resume: bool = False) -> Path:
    recipe = recipe_of(tmp_path / "server", *methods)
    link = link or LocalLink(trainers_of(files, tmp_path))
    return run_server(recipe, link, resume=resume, say=print, sleep=short_sleep, pause=0.01)


@pytest.mark.parametrize("methods", [pytest.param(METHODS, marks=pytest.mark.slow), ["shared-basis", "moon"]])
def test_several_methods_one_after_the_other_end_as_the_simulation_does(
    files: Path, tmp_path: Path, methods: list[str]
) -> None:
    deployed = serve(files, tmp_path, *methods)
    expected = simulated(files, tmp_path / "simulation", *methods)
    for method in methods:
        assert projector(deployed / method) == projector(expected / method), method
        for name in NAMES:  # every site has what was trained in its own hands
            (kept,) = (tmp_path / name / "models").glob(f"*/{method}")
            assert projector(kept) == projector(expected / method)
