"""The workers of a run and the queue in front of them: jobs of all methods go to whichever worker is free.

With one worker, jobs run in this process. With more, each worker is a process of its own with one torch thread. Ranks
that a launcher started are one worker together (crew.py).
"""

from collections.abc import Sequence
from pathlib import Path

from fedcmp.config import Recipe, dump_recipe
from fedcmp.files import write_whole
from fedcmp.simulation.crew import TOGETHER, Crew
from fedcmp.simulation.engine import Engine
from fedcmp.simulation.processes import WORKER_RECIPE, start_workers
from fedcmp.wire.frames import Frame
from fedcmp.workers.jobs import Answer, Job, Stopped
from fedcmp.workers.pool import Here
from fedcmp.workers.pool import Pool as WorkerPool
from fedcmp.workers.processes import WorkerProcesses

__all__ = ["Answer", "Pool", "Stopped"]
_DIED = (
    "a worker ended in the middle of a job (exit code {code}; -9 is often the system running out of memory: use fewer "
    "workers); the run can be resumed with --resume"
)


class Pool(WorkerPool):
    """`workers` workers for one run; use as a context manager.

    Args:
        recipe: the run.
        prepared: the run's `prepared/` folder.
        crew: the ranks that are the one worker, whatever the recipe says of workers.
        processes: the workers, where they were started ahead; the pool ends them.
    """

    def __init__(
        self, recipe: Recipe, prepared: Path, *, crew: Crew | None = None, processes: WorkerProcesses | None = None
    ) -> None:
        write_whole(prepared / WORKER_RECIPE, dump_recipe(recipe).encode())
        self._recipe, self._prepared, self._crew = recipe, prepared, crew
        self._engine: Engine | None = None
        self._crew_is_open = False
        here = None
        if crew is not None:
            here = Here(self._by_ranks, most=crew.group.size, alone=_is_for_all_ranks)
        elif recipe.run.workers == 1:
            here = Here(self._by_engine)
        count = recipe.run.workers if crew is None else 0
        super().__init__(processes or start_workers(count, prepared), died=_DIED, here=here)

    def _by_engine(self, jobs: Sequence[Frame]) -> list[Frame]:
        if self._engine is None:
            self._engine = Engine(self._recipe, self._prepared, on_step=self.check_stop)
        return [self._engine.run(*job) for job in jobs]

    def _by_ranks(self, jobs: Sequence[Frame]) -> list[Frame]:
        assert self._crew is not None
        if not self._crew_is_open:
            self._crew.open(self._prepared, self.check_stop)
            self._crew_is_open = True
        return self._crew.run(jobs)


def _is_for_all_ranks(job: Job) -> bool:
    """Lazy jobs go alone: what they are is known when they are made."""
    return callable(job) or job[0]["op"] in TOGETHER
