"""Methods with steps of their own, and free combinations, through whole runs: to the bit through kills and edges."""

import copy

import pytest

from fedcmp.config.methods import COMBINATIONS, PLAIN_STEP
from fedcmp.config.sections import Method
from tests.federation.test_rounds import StopAfter, outcome, run

NAMED = [name for name, known in COMBINATIONS.items() if known.step != PLAIN_STEP and name != "shared-basis"]
FREE = {
    "canonical-knots": Method(aggregator="knots-ties", step="canonical"),
    "canonical-moon": Method(aggregator="fedavgm", step="canonical", objective="moon"),
    "random-basis": Method(aggregator="fedavg", step="canonical", step_options={"basis": "random"}),
    "own-basis": Method(aggregator="shared-basis", step="canonical", step_options={"basis": "own"}),
    "muon-shared": Method(aggregator="shared-basis", step="muon"),
    "soap-fisher": Method(aggregator="fisher", step="soap"),
    "variates-twice": Method(aggregator="scaffold", objective="scaffold", step="fedmuon"),
}
APART = [
    "centralized-with-canonical",
    "centralized-with-soap",
    "centralized-large-batch-with-muon",
    "local-with-foof",
    "local-with-newton-muon",
]


@pytest.fixture(scope="module")
def free(engine):
    """The engine, whose recipe knows the free combinations."""
    engine = copy.copy(engine)
    engine.recipe = engine.recipe.model_copy(update={"method": FREE})
    return engine


QUICK = ("fedpac-soap", "canonical-knots", "centralized-with-canonical")  # of each kind one


@pytest.mark.parametrize(
    "method",
    [method if method in QUICK else pytest.param(method, marks=pytest.mark.slow) for method in (*NAMED, *FREE, *APART)],
)
def test_a_killed_run_ends_where_an_orderly_one_does(free, tmp_path, method):
    whole, _ = run(free, tmp_path / "whole", method)
    with pytest.raises(InterruptedError):
        run(free, tmp_path / "killed", method, events=StopAfter(2))
    found, _ = run(free, tmp_path / "killed", method, resume=True, reorder=True)
    assert outcome(found) == outcome(whole)
    for tensors in whole.last().projectors.values():
        assert all(bool(tensor.isfinite().all()) for tensor in tensors.values())
