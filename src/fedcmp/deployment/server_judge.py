"""A server that judges on pairs of its own: `deployment.judge = "server"`.

The pairs are those of the recipe's [data]: the embedded world's held-out scenes, or nine tenths of the server's own
files (a tenth is kept back, as a run needs pairs to train on; nothing is trained on them).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fedcmp.config import Recipe
from fedcmp.config.sections import Deployment, Scenario
from fedcmp.federation.rounds import Evaluator
from fedcmp.preparation.prepare import prepare
from fedcmp.preparation.sources import Progress
from fedcmp.simulation.evaluate import PoolEvaluator, References
from fedcmp.simulation.pool import Pool

_WORLD_PAIRS = 16  # that are prepared, since none would be refused; the held-out scenes are others
_JUDGED = 0.9


def judging_recipe(recipe: Recipe) -> Recipe:
    """Return a recipe of one client that holds the server's own pairs, nearly all of them held out."""
    world = recipe.data.format == "world"
    data = {"num_pairs": _WORLD_PAIRS} if world else {"held_out": _JUDGED}
    return recipe.model_copy(
        update={
            "data": recipe.data.model_copy(update=data | {"clients": []}),
            "scenario": Scenario(clients=1),
            "federation": recipe.federation.model_copy(update={"rounds": 1, "participation": 1.0, "min_clients": 1}),
            "deployment": Deployment(),
        }
    )


@contextmanager
def server_evaluators(recipe: Recipe, folder: Path, progress: Progress) -> Iterator[Callable[[str, Path], Evaluator]]:
    """Prepare the server's own pairs; yield what makes a method's evaluator from its name and its run's folder.

    Args:
        recipe: the federation's.
        folder: for what is prepared.
        progress: receives what is prepared.

    Raises:
        UserError: unusable pairs or models.
    """
    own = judging_recipe(recipe)
    data = prepare(own, folder, progress)
    shared = References()
    with Pool(own, folder) as pool:
        yield lambda method, run: PoolEvaluator(method, own, data, pool, run, folder, shared=shared)
