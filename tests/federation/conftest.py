"""A worker's model and pairs for the tests of the rounds: five clients, three rounds, two steps each."""

from collections.abc import Iterator

import pytest
import torch

from fedcmp.config import parse_recipe
from fedcmp.federation import learner
from fedcmp.preparation.prepare import prepare
from fedcmp.simulation.engine import Engine
from tests.federation.remembered import Remembered

CONTENT = {
    "run": {"workers": 1, "methods": ["fedavg"]},
    "data": {"num_pairs": 240},
    "scenario": {"kind": "iid", "clients": 5},
    "federation": {"rounds": 3, "payload": "int8"},
    "training": {"batch_size": 8, "learning_rate": 0.01},
    "evaluation": {"captions": 16, "questions_per_kind": 0, "samples": 1},
}


@pytest.fixture(scope="module", autouse=True)
def remembered() -> Iterator[Remembered]:
    """The same part of the same learner is trained once in a module, however many runs come by it."""
    with pytest.MonkeyPatch.context() as patched:
        stand_in = Remembered(learner.train_cohort)
        patched.setattr(learner, "train_cohort", stand_in)
        yield stand_in


@pytest.fixture(scope="module")
def engine(tmp_path_factory, world_cache):
    content = CONTENT | {"run": {**CONTENT["run"], "cache": str(world_cache)}}
    recipe = parse_recipe(content, "test")
    folder = tmp_path_factory.mktemp("rounds") / "prepared"
    prepare(recipe, folder, lambda _what, _done, _total: None)
    torch.set_num_threads(1)
    return Engine(recipe, folder)
