"""The worker processes of a run: started before the run is prepared, they are ready when it is. Loads no library."""

from pathlib import Path

from fedcmp.workers.processes import WorkerProcesses

WORKER_RECIPE = "worker.toml"  # in the prepared folder; written at every start, as workers and cache may differ


def start_workers(count: int, prepared: Path, *, split: bool | None = None) -> WorkerProcesses:
    """Start a run's workers.

    Args:
        count: how many; a single worker needs no process.
        prepared: where the run's `prepared/` folder is, or will be by the first job.
        split: see `WorkerProcesses`.
    """
    return WorkerProcesses(
        count if count > 1 else 0, "fedcmp.simulation.handler:serve_engine", [str(prepared)], split=split
    )
