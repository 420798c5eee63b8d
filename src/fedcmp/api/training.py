"""Train a recipe from Python."""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedcmp.api.run import Run
from fedcmp.errors import UserError
from fedcmp.extras import quiet_libraries
from fedcmp.shipped import shipped_recipes

if TYPE_CHECKING:
    from fedcmp.config import Recipe


def train(
    recipe: "str | os.PathLike[str] | Mapping[str, Any] | Recipe",
    *,
    resume: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
    **overrides: Any,
) -> Run:
    """Run every method of a recipe to its end and return the run.

        fedcmp.train("demo", federation={"rounds": 2}, run={"name": "short"})
        fedcmp.train("own.toml", **{"training.learning_rate": 0.003})

    Args:
        recipe: a recipe's file; the name of a recipe that comes with the package (`fedcmp recipes` lists them); the
            recipe's tables as a dict, whose relative paths start from the current folder; or a `fedcmp.config.Recipe`.
        resume: continue a run that was interrupted; the recipe must be the same.
        overwrite: remove an earlier run of the same name first.
        quiet: print nothing; otherwise progress goes to stderr.
        overrides: values that replace the recipe's: a section's name with a dict of its keys, or "section.key".
            Relative paths among them are taken as the recipe's own.

    Returns:
        The run: its folder, table, report, captions and export.

    Raises:
        UserError: a mistake in the recipe, data or models that cannot be used, a run of that name that is there
            already; the message is one line that says what to do.
    """
    quiet_libraries()
    from fedcmp.config.places import check_places
    from fedcmp.runs.place import check_own_recipe, check_place
    from fedcmp.runs.versions import remark_on_versions

    loaded = _loaded(recipe, overrides)
    file = Path(recipe) if isinstance(recipe, str | os.PathLike) else None
    check_places(loaded, "recipe" if file is None else str(file))
    remark = None
    if file is not None:
        check_own_recipe(file, loaded, overwrite=overwrite)
        remark = remark_on_versions(file)
    check_place(loaded, resume=resume, overwrite=overwrite)  # before seconds of loading libraries
    begins = f"{loaded.run.place}: {', '.join(loaded.run.methods)}; loading libraries ..."
    if not quiet:
        print(*filter(None, (remark, begins)), sep="\n", file=sys.stderr, flush=True)
    from fedcmp.api.progress import Lines
    from fedcmp.simulation.train import train as run_all

    lines = Lines(quiet=quiet)
    _check_workers(loaded)
    folder = run_all(loaded, resume=resume, overwrite=overwrite, events=lines, progress=lines.preparing)
    return Run(folder)


def _loaded(recipe: "str | os.PathLike[str] | Mapping[str, Any] | Recipe", overrides: Mapping[str, Any]) -> "Recipe":
    from fedcmp.config import Recipe, from_folder, parse_recipe, read_toml

    if isinstance(recipe, Recipe):
        content, source, folder = recipe.model_dump(mode="python"), "recipe", Path.cwd()
    elif isinstance(recipe, Mapping):
        content, source, folder = _copied(recipe), "recipe", Path.cwd()
    else:
        path = Path(recipe)
        shipped = shipped_recipes()
        if not path.exists() and str(recipe) in shipped:
            path = shipped[str(recipe)].path
        content, source, folder = read_toml(path), str(path), path.resolve().parent
    for key, value in overrides.items():
        _put(content, key, value)
    return from_folder(parse_recipe(content, source), folder)


def _check_workers(recipe: "Recipe") -> None:
    """Refuse several workers for a rule, objective or step that only this process knows: workers import only fedcmp."""
    from fedcmp import aggregation
    from fedcmp.client.objectives import describe_objective
    from fedcmp.client.steps import describe_step

    if recipe.run.workers == 1:
        return
    for name in recipe.run.methods:
        chosen = recipe.chosen(name)
        factories: list[Callable[..., object]] = [describe_step(chosen.step).factory]
        if chosen.aggregator:
            factories.append(aggregation.describe(chosen.aggregator).factory)
            factories.append(describe_objective(chosen.objective).factory)
        for factory in factories:
            if factory.__module__.partition(".")[0] != "fedcmp":
                raise UserError(
                    f"run.workers = {recipe.run.workers}: worker processes do not know the method {name!r}, which "
                    f"{factory.__module__} defines; set run.workers to 1"
                )


def _put(content: dict[str, Any], key: str, value: Any) -> None:
    """Replace what an override names; of a section only the keys that it gives."""
    *sections, last = key.split(".")
    table = content
    for name in sections:
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            raise UserError(f"{key}: {name} is a value, not a section")
    if not sections and not isinstance(value, Mapping):
        raise UserError(
            f"{key} = {value!r}: name the section too, as federation={{'rounds': 3}} or **{{'federation.rounds': 3}}"
        )
    if isinstance(value, Mapping) and not isinstance(table.get(last, {}), list):
        table[last] = _merged(table.get(last) or {}, _copied(value))
    else:
        table[last] = _copied(value)


def _merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    both = {key: _merged(old[key], value) for key, value in new.items() if _tables(old.get(key), value)}
    return old | new | both


def _tables(*values: Any) -> bool:
    return all(isinstance(value, dict) for value in values)


def _copied(value: Any) -> Any:
    """Return plain dicts and lists, as a TOML file has them, that share nothing with what was given."""
    if isinstance(value, Mapping):
        return {str(key): _copied(inner) for key, inner in value.items()}
    return [_copied(inner) for inner in value] if isinstance(value, list | tuple) else value
