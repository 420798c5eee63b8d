"""One method of a simulated run: the rounds of federation/ with the pool as transport and evaluator."""

from collections.abc import Sequence
from pathlib import Path

from fedcmp.config import Recipe
from fedcmp.federation.apart import Apart
from fedcmp.federation.rounds import Events, Rounds, Side
from fedcmp.federation.server import ServerSide
from fedcmp.planning.machine import describe_machine
from fedcmp.preparation.batches import learning_rate
from fedcmp.preparation.loading import Prepared
from fedcmp.references import is_federated
from fedcmp.runs.folder import RunFolder
from fedcmp.runs.records import ClientData, PairsRead, RunRecord, timestamp
from fedcmp.runs.versions import versions
from fedcmp.simulation.evaluate import PoolEvaluator
from fedcmp.simulation.pool import Pool
from fedcmp.simulation.transport import PoolTransport
from fedcmp.wire.messages import Reply
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
    """
    names = data.manifest.names
    rate = learning_rate(method, recipe, [len(holding) for holding in data.manifest.holdings])

    def heard(reply: Reply, clients: int) -> None:
        if "loss" in reply.figures:
            events.client_done(method, reply.round, reply.client, clients, reply.figures["loss"])

    side: Side
    waiting = folder.path / "waiting"
    if not is_federated(method):
        side = Apart(method, names, initial, rate, heard, waiting)
    else:
        side = ServerSide(method, recipe.chosen(method), recipe, names, initial, waiting, rate, heard)
    return Rounds(
        method,
        recipe,
        side,
        PoolTransport(pool, folder.path / "clients", names, cohort=recipe.run.cohort),
        PoolEvaluator(method, recipe, data, pool, folder.path, prepared, suites=suites),
        folder,
        first_records=[
            _run_record(method, recipe, names, rate, initial),
            *(PairsRead(**line) for line in data.pairs_lines),
            *(ClientData(**line) for line in data.data_lines),
        ],
        events=events,
    )


def _run_record(method: str, recipe: Recipe, names: Sequence[str], rate: float, initial: Tensors) -> RunRecord:
    return RunRecord(
        method=method,
        federated=is_federated(method),
        rounds=recipe.federation.rounds,
        clients=len(names),
        seed=recipe.run.seed,
        learning_rate=rate,
        versions=versions(),
        started=timestamp(),
        machine=describe_machine(),
        parameters=sum(tensor.numel() for tensor in initial.values()),
    )
