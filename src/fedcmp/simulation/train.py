"""A whole run: prepare the pairs, start the workers, run every method of the recipe side by side.

A recipe with one method keeps its run in runs/NAME; with several, each has a folder of its own in there, and all use
runs/NAME/prepared. Methods share the workers: while one waits for its slowest client, another trains.
"""

import importlib.metadata
import platform
import shutil
import threading
import tomllib
from pathlib import Path
from typing import Any

from fedcmp import __version__
from fedcmp.config import Recipe, dump_recipe, parse_recipe
from fedcmp.data.writing import write_whole
from fedcmp.errors import UserError
from fedcmp.model.language import LanguageModel
from fedcmp.runs import RunFolder
from fedcmp.simulation.engine import new_projector
from fedcmp.simulation.loop import Events, MethodRun
from fedcmp.simulation.pool import Pool, Stopped
from fedcmp.simulation.prepare import Prepared, prepare
from fedcmp.simulation.sources import Progress

NOT_COMPARED = ("workers", "cache", "folder")  # a run may be resumed with other ones: they change no result


def run_folder(recipe: Recipe) -> Path:
    """runs/NAME."""
    return recipe.run.folder / recipe.run.name


def method_folders(recipe: Recipe) -> dict[str, RunFolder]:
    """Where each method's run is kept."""
    folder = run_folder(recipe)
    if len(recipe.run.methods) == 1:
        return {recipe.run.methods[0]: RunFolder(folder)}
    return {method: RunFolder(folder / method) for method in recipe.run.methods}


def train(
    recipe: Recipe, *, resume: bool = False, overwrite: bool = False, events: Events | None = None, progress: Progress
) -> Path:
    """Run all methods of a recipe to their end.

    Args:
        recipe: what to run.
        resume: go on with a run that was interrupted; the recipe must be the same.
        overwrite: remove an earlier run of the same name first.
        events: receives what learners finish.
        progress: receives what is prepared, how much of it, out of how much.

    Returns:
        The run's folder.

    Raises:
        UserError: a run of that name exists (and neither option is given), or does not fit; unusable data or models.
    """
    folder, folders = run_folder(recipe), method_folders(recipe)
    _check_folder(recipe, folder, resume=resume, overwrite=overwrite)
    data = prepare(recipe, folder / "prepared", progress)
    language = LanguageModel(recipe.model.language, separator=recipe.model.separator, device="cpu")
    initial = new_projector(recipe, data.vision_width, language.width).tensors()
    del language
    recipe_file = folder / "recipe.toml"
    for method, kept in folders.items():
        if not kept.metrics.exists():
            kept.begin(_recipe_text(recipe, data, method))
    if not recipe_file.exists():
        write_whole(recipe_file, _recipe_text(recipe, data, None).encode())
    with Pool(recipe, recipe_file, folder / "prepared") as pool:
        runs = [
            MethodRun(method, recipe, data, initial, pool, kept, folder / "prepared", events or Events())
            for method, kept in folders.items()
        ]
        _run_side_by_side(runs, pool, resume=resume)
    return folder


def _run_side_by_side(runs: list[MethodRun], pool: Pool, *, resume: bool) -> None:
    errors: list[BaseException] = []

    def run_one(run: MethodRun) -> None:
        try:
            run.run(resume=resume)
        except Stopped:
            pass
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run_one, args=(run,), daemon=True) for run in runs]
    for thread in threads:
        thread.start()
    try:
        while any(thread.is_alive() for thread in threads) and not errors:
            for thread in threads:
                thread.join(0.1)
    finally:
        if errors or any(thread.is_alive() for thread in threads):  # an error or Ctrl-C: let no method go on
            pool.close()
            for thread in threads:
                thread.join()
    if errors:
        raise errors[0]


def _check_folder(recipe: Recipe, folder: Path, *, resume: bool, overwrite: bool) -> None:
    recipe_file = folder / "recipe.toml"
    if resume and overwrite:
        raise UserError("--resume and --overwrite exclude each other")
    if overwrite:
        if (
            folder.exists()
            and not (folder / "prepared").exists()
            and any(folder.iterdir())
            and not recipe_file.exists()
        ):
            raise UserError(f"{folder}: is not a run; --overwrite will not remove it")
        shutil.rmtree(folder, ignore_errors=True)
    elif folder.exists() and any(folder.iterdir()):
        if not resume:
            raise UserError(f"{folder}: a run is there already; give --resume to go on with it, or --overwrite")
        if recipe_file.exists():
            _check_same(recipe, recipe_file)


def _check_same(recipe: Recipe, recipe_file: Path) -> None:
    content = tomllib.loads(recipe_file.read_text(encoding="utf-8"))
    content.pop("versions", None)
    before = _compared(parse_recipe(content, str(recipe_file)))
    now = _compared(recipe)
    for section, values in now.items():
        for key, value in values.items():
            if before[section].get(key) != value:
                raise UserError(
                    f"{section}.{key} = {value!r}: the run in {recipe_file.parent} was begun with "
                    f"{before[section].get(key)!r}; resume with that, or start again with --overwrite"
                )


def _compared(recipe: Recipe) -> dict[str, dict[str, Any]]:
    content = recipe.model_dump(mode="json")
    return content | {"run": {key: value for key, value in content["run"].items() if key not in NOT_COMPARED}}


def _recipe_text(recipe: Recipe, data: Prepared, method: str | None) -> str:
    """A method's folder gets a recipe that runs it alone."""
    own = (
        recipe
        if method is None
        else recipe.model_copy(update={"run": recipe.run.model_copy(update={"methods": [method]})})
    )
    libraries = ("torch", "transformers", "safetensors", "numpy", "scikit-learn")
    versions = {name: importlib.metadata.version(name) for name in libraries}
    versions |= {"fedcmp": __version__, "python": platform.python_version(), "manifest": data.manifest.hash()}
    return dump_recipe(own, versions=versions)
