"""One method of a simulated run: the rounds of federation/ with the pool as transport and evaluator."""

from collections.abc import Sequence
from pathlib import Path

from fedcmp.config import Recipe
from fedcmp.federation.rounds import Events, Rounds
from fedcmp.planning.machine import describe_machine
from fedcmp.preparation.batches import learning_rate
from fedcmp.preparation.loading import Prepared
from fedcmp.references import is_federated
from fedcmp.runs.folder import RunFolder
from fedcmp.runs.records import ClientData, PairsRead, RunRecord, timestamp
from fedcmp.runs.versions import versions
from fedcmp.simulation.evaluate import PoolEvaluator, References
from fedcmp.simulation.halves import halves
from fedcmp.simulation.pool import Pool
from fedcmp.wire.naming import Tensors


def method_run(
    method: str,
    recipe: Recipe,
    data: Prepared,
    initial: Tensors,
    pool: Pool,
    folder: RunFolder,
    prepared: Path,
    events: Events,
    *,
    suites: Sequence[str] = (),
    shared: References | None = None,
) -> Rounds:
    """Put one method's rounds together.

    Args:
        method: its name.
        recipe: the run.
        data: its pairs.
        initial: the tensors that all learners start from.
        pool: the workers.
        folder: where this method's run is kept.
        prepared: `prepared/` of the run.
        events: receives progress.
        suites: which suites (evaluation/suites) are asked after the last round.
        shared: the references of the run's methods, measured once for all.
    """
    names = data.manifest.names
    rate = learning_rate(method, recipe, [len(holding) for holding in data.manifest.holdings])
    side, transport, rounds = halves(method, recipe, names, initial, rate, pool, folder.path, events)
    return Rounds(
        method,
        recipe,
        side,
        transport,
        PoolEvaluator(method, recipe, data, pool, folder.path, prepared, suites=suites, shared=shared),
        folder,
        first_records=[
            _run_record(method, recipe, names, rate, initial, rounds),
            *(PairsRead(**line) for line in data.pairs_lines),
            *(ClientData(**line) for line in data.data_lines),
        ],
        events=events,
        rounds=rounds,
    )


def _run_record(
    method: str, recipe: Recipe, names: Sequence[str], rate: float, initial: Tensors, rounds: int
) -> RunRecord:
    return RunRecord(
        method=method,
        federated=is_federated(method),
        rounds=rounds,
        clients=len(names),
        seed=recipe.run.seed,
        learning_rate=rate,
        versions=versions(),
        started=timestamp(),
        machine=describe_machine(),
        parameters=sum(tensor.numel() for tensor in initial.values()),
    )
