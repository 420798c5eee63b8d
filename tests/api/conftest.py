"""One short run for all tests of the Python interface."""

import pytest

import fedcmp

SHORT = {
    "run": {"name": "short", "methods": ["fedavg", "local"], "workers": 1},
    "data": {"num_pairs": 90},
    "scenario": {"kind": "iid", "clients": 2},
    "federation": {"rounds": 1},
    "training": {"batch_size": 8, "learning_rate": 0.01},
    "evaluation": {"captions": 16, "questions_per_kind": 1, "samples": 1, "sample_tokens": 3},
}


@pytest.fixture(scope="session")
def short_run(tmp_path_factory, world_cache):
    folder = tmp_path_factory.mktemp("api")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEDCMP_CACHE", str(world_cache))
        return fedcmp.train(SHORT, run={"folder": folder / "runs"}, quiet=True)
