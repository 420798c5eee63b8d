"""Where a run's pairs are prepared, and how they take the run's place; what a resumed run finds prepared is checked."""

import shutil
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedcmp.checksums import sealed_toml
from fedcmp.config import Recipe, dump_recipe
from fedcmp.errors import UserError
from fedcmp.files import write_whole
from fedcmp.preparation.loading import Prepared
from fedcmp.preparation.prepare import Helpers, prepare
from fedcmp.preparation.setup_file import SETUP
from fedcmp.preparation.sources import Progress
from fedcmp.runs.place import preparing_place
from fedcmp.runs.versions import versions


@contextmanager
def preparing(folder: Path) -> Iterator[Path]:
    """Give a run's pairs a place until it takes its own; a kill or Ctrl-C leaves it: there is a run to resume."""
    fresh = preparing_place(folder)
    try:
        yield fresh
    except Exception:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    shutil.rmtree(fresh, ignore_errors=True)


def prepare_at(
    folder: Path, fresh: Path, recipe: Recipe, *, resume: bool, progress: Progress, crew: Helpers | None
) -> Prepared:
    """Prepare a run's pairs; only if that goes well does a new run take an earlier one's place.

    Args:
        folder: the run's place.
        fresh: where a new one is prepared.
        recipe: the run.
        resume: continue the run that is there. Where what it had prepared is gone, it is made again.
        progress: receives what is prepared.
        crew: other ranks, which help.

    Raises:
        UserError: unusable data, damaged files, or another partition than the run was begun with.
    """
    prepared = folder / "prepared"
    if resume and (prepared / SETUP).exists():
        data = prepare(recipe, prepared, progress, helpers=crew)
        _check_manifest(folder, data)
        return data
    shutil.rmtree(fresh, ignore_errors=True)
    data = prepare(recipe, fresh / "prepared", progress, helpers=crew)
    if resume:
        _check_manifest(folder, data)
        shutil.rmtree(prepared, ignore_errors=True)
        (fresh / "prepared").rename(prepared)
    else:
        write_whole(fresh / "recipe.toml", sealed_toml(recipe_text(recipe, data, None)).encode())
        _replace(folder, fresh)
    return data


def recipe_text(recipe: Recipe, data: Prepared, method: str | None) -> str:
    """Return a run's recipe with versions and the manifest's hash; a method's folder gets one that runs it alone."""
    if method is not None:
        recipe = recipe.model_copy(update={"run": recipe.run.model_copy(update={"methods": [method]})})
    return dump_recipe(recipe, versions=versions() | {"manifest": data.manifest.hash()})


def _replace(folder: Path, fresh: Path) -> None:
    """Put a prepared folder in the place of an earlier run; at no moment is there a mixture of the two."""
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    fresh.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _check_manifest(folder: Path, data: Prepared) -> None:
    path = folder / "recipe.toml"
    begun = tomllib.loads(path.read_text(encoding="utf-8")).get("versions", {}).get("manifest")
    if begun is not None and begun != data.manifest.hash():
        raise UserError(
            f"{path}: the data or their partition changed since the run began; restore them, or start with --overwrite"
        )
