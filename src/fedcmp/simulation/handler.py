"""What a run's worker processes do: jobs of the engine."""

from pathlib import Path

from fedcmp.config import read_dumped
from fedcmp.simulation.engine import Engine
from fedcmp.simulation.processes import WORKER_RECIPE
from fedcmp.workers.jobs import Handler


def serve_engine(prepared: str) -> Handler:
    """Load a run's model and pairs.

    Args:
        prepared: the run's `prepared/` folder.

    Raises:
        UserError: it holds no recipe, or what the recipe names cannot be loaded.
    """
    folder = Path(prepared)
    return Engine(read_dumped(folder / WORKER_RECIPE), folder).run
