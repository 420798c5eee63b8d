"""Open a finished run: its recipe, with what may be set otherwise after training."""

import tomllib
from pathlib import Path

from fedcmp.config import Recipe, dump_recipe, override, parse_recipe, read_dumped
from fedcmp.errors import UserError
from fedcmp.runs.place import check_one_run

CHANGEABLE = (
    "evaluation",
    "model.device",
    "model.dtype",
    "model.frozen_precision",
    "model.compile",
    "model.logit_rows",
    "run.cache",
)


def run_recipe(folder: Path, overrides: list[str] | None = None) -> Recipe:
    """Return the recipe that a run was begun with.

    Raises:
        UserError: the folder is not there, is no run, holds several, or an override would change what was trained.
    """
    check_one_run(folder)
    path = folder / "recipe.toml"
    content = tomllib.loads(dump_recipe(read_dumped(path)))
    for text in overrides or []:
        if not text.startswith(tuple(f"{key}." if "." not in key else key for key in CHANGEABLE)):
            raise UserError(f"-o {text}: cannot be changed after training; only {', '.join(CHANGEABLE)} can")
        override(content, text)
    return parse_recipe(content, str(path))
