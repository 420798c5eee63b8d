"""What is at a run's place already, and whether the run may begin or resume there. Does not load transformers."""

import tomllib
from pathlib import Path
from typing import Any

from fedcmp.config import Recipe, read_dumped
from fedcmp.errors import UserError
from fedcmp.files import TEMPORARY

# a run may be resumed with other ones: they change no result, or only say what happens when something goes wrong
NOT_COMPARED = {
    "run": ("workers", "cache", "folder", "track", "preflight", "save_seconds"),
    "federation": ("on_bad_update", "min_clients", "deadline"),
    "deployment": ("start_seconds", "poll_seconds"),
}


def preparing_place(folder: Path) -> Path:
    """Return where a run's pairs are prepared before it takes its place; it is left behind by one that is killed."""
    return folder.with_name(f".{folder.name}.preparing")


def holds_something(folder: Path) -> bool:
    """Return whether there is more in a folder than what a killed process had half written."""
    return folder.is_dir() and any(not path.name.endswith(TEMPORARY) for path in folder.iterdir())


def check_folder(folder: Path) -> None:
    """Refuse a run's folder that is not there.

    Raises:
        UserError: no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name a run's folder, for example runs/demo")


def check_one_run(folder: Path) -> None:
    """Refuse a folder that is not one method's run.

    Raises:
        UserError: it is not there, is no run, or holds several: names them.
    """
    check_folder(folder)
    if (folder / "metrics.jsonl").exists():
        return
    inside = sorted(place.parent.name for place in folder.glob("*/metrics.jsonl"))
    if inside:
        raise UserError(f"{folder}: holds several runs; name one of them, as {folder / inside[0]}: {', '.join(inside)}")
    raise UserError(f"{folder}: is not a run's folder (no metrics.jsonl); name one, for example runs/demo/fedavg")


def check_place(recipe: Recipe, *, resume: bool, overwrite: bool) -> None:
    """Refuse a run that would disturb another, or that cannot be resumed.

    Args:
        recipe: the run; where it says model.dtype = "auto", the dtype of the run that is there is its own.
        resume: continue what is there.
        overwrite: take its place.

    Raises:
        UserError: a run is there and neither is given, or both are; what is there is no run, or another one; there is
            none that could be resumed.
    """
    folder = recipe.run.place
    if resume and overwrite:
        raise UserError("--resume and --overwrite exclude each other")
    if not folder.exists() or (folder.is_dir() and not holds_something(folder)):
        if resume and not preparing_place(folder).exists():
            raise UserError(
                f"{folder}: no run is there to resume; leave --resume out to begin it, or check run.folder and run.name"
            )
        return
    if overwrite:
        if not (folder / "recipe.toml").exists():
            raise UserError(f"{folder}: is not a run (no recipe.toml); --overwrite will not remove it")
    elif not (folder / "recipe.toml").exists():
        raise UserError(f"{folder}: is not empty and holds no run (no recipe.toml); name another: -o run.name=NAME")
    elif not resume:
        raise UserError(
            f"{folder}: a run is there already; give --resume to continue it, --overwrite to replace it, or the new "
            "run another name: -o run.name=NAME"
        )
    else:
        _check_same(recipe)


def check_own_recipe(path: Path, recipe: Recipe, *, overwrite: bool) -> None:
    """Refuse to remove a run of several methods by the recipe of one of them.

    Args:
        path: the recipe's file.
        recipe: what was read from it.
        overwrite: whether the run's place is to be emptied first.

    Raises:
        UserError: the file is one method's own and the run holds other methods too.
    """
    place = recipe.run.place.resolve()
    if overwrite and path.resolve().parent != place and place in path.resolve().parents:
        raise UserError(
            f"{path}: is the recipe of one method of the run {recipe.run.place}, all of which --overwrite would "
            "remove; name the new run otherwise: -o run.name=NAME"
        )


def _check_same(recipe: Recipe) -> None:
    begun = recipe.run.place / "recipe.toml"
    before = _compared(read_dumped(begun))
    version = str(tomllib.loads(begun.read_text(encoding="utf-8")).get("versions", {}).get("fedcmp", ""))
    if version.startswith("0.1."):
        raise UserError(
            f"{begun}: the run was begun with fedcmp {version}, whose methods had other names and whose clients' "
            "states were in its checkpoints; finish it with that version, or start again with --overwrite"
        )
    now = _compared(recipe)
    if recipe.model.dtype == "auto":
        now["model"]["dtype"] = before["model"]["dtype"]
    for section, values in now.items():
        for key, value in values.items():
            if before[section].get(key) != value:
                raise UserError(
                    f"{section}.{key} = {value!r}: the run in {recipe.run.place} was begun with "
                    f"{before[section].get(key)!r}; resume with that, or start again with --overwrite"
                )


def _compared(recipe: Recipe) -> dict[str, dict[str, Any]]:
    content = recipe.model_dump(mode="json")
    for section, keys in NOT_COMPARED.items():
        content[section] = {key: value for key, value in content[section].items() if key not in keys}
    return content
