"""The server's ServerApp: Flower starts it for a run, and it runs the recipe's rounds over Flower's Grid.

Run config: `recipe` (a TOML file on the server's machine), `home` (the server's folder, whose roster.json says which
node is which site), `resume`.
"""

import logging
import sys
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedcmp.config import load_recipe
from fedcmp.deployment.server_folder import read_roster
from fedcmp.deployment.server_run import run_server
from fedcmp.federation.flower.link import FlowerLink
from fedcmp.federation.rounds import Events
from fedcmp.runs.records import Evaluation

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the recipe that the run config names.

    Raises:
        UserError: whatever `run_server` cannot go on with.
    """
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    config = context.run_config
    home = Path(str(config["home"]))
    recipe = load_recipe(Path(str(config["recipe"])))
    run = recipe.run.model_copy(update={"folder": home / recipe.run.folder})
    link = FlowerLink(grid, lambda: read_roster(home))
    resume = bool(config["resume"])
    folder = run_server(recipe.model_copy(update={"run": run}), link, resume=resume, say=_say, events=_Lines())
    _say(f"finished: {folder}")


class _Lines(Events):
    """Say each round's end."""

    def round_done(self, method: str, round_number: int, rounds: int, evaluation: Evaluation | None) -> None:
        """See Events."""
        loss = None if evaluation is None else evaluation.caption_loss
        _say(f"{method}, round {round_number} of {rounds}" + ("" if loss is None else f": held-out loss {loss:.3f}"))


def _say(line: str) -> None:
    print(line, flush=True)
