"""Finished runs, and the command in this process."""

import sys

import pytest

from fedcmp.cli.main import main
from fedcmp.config import parse_recipe
from fedcmp.simulation.train import train

from ..evaluation.lmms.fake_lmms import FakeLmms


@pytest.fixture(scope="session")
def runs(tmp_path_factory, world_cache):
    """Two methods, one of them with a projector a client."""
    content = {
        "run": {
            "folder": str(tmp_path_factory.mktemp("runs")),
            "methods": ["fedavg", "local"],
            "cache": str(world_cache),
        },
        "data": {"num_pairs": 64},
        "scenario": {"clients": 2},
        "federation": {"rounds": 1},
        "evaluation": {"captions": 16, "questions_per_kind": 0, "samples": 0},
    }
    content["run"]["cache"] = str(world_cache)
    return train(parse_recipe(content, "test"), progress=lambda *_: None)


@pytest.fixture
def fedcmp(monkeypatch, capsys, tmp_path, world_cache):
    """The command in this process: (arguments) -> exit code, standard output, standard error."""
    fake = FakeLmms(tmp_path / "fake")
    monkeypatch.setenv("FEDCMP_CACHE", str(world_cache))
    monkeypatch.setenv("FEDCMP_LMMS_PYTHON", str(fake.python))

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["fedcmp", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return ended.value.code, out, err

    run.fake = fake
    return run
