"""What a run needs to be there: files and folders that its recipe names, and enough pairs; before anything is loaded.

What is inside is checked by who reads it; here a mistyped path is found within the first second.
"""

import os
from pathlib import Path

from fedcmp.config.recipe import Recipe
from fedcmp.errors import UserError, counted
from fedcmp.model.folders import EMBEDDED, check_weights, resolve

_PATTERN = frozenset("{}[]*?")  # shards may be named by a pattern, which data/ expands
_FORMATS = {".json": "llava", ".jsonl": "llava", ".ndjson": "llava", ".tar": "webdataset", ".parquet": "parquet"}


def check_places(recipe: Recipe, source: str) -> None:
    """Refuse a recipe that names what is not there, or a place for its run that cannot be one.

    Args:
        recipe: with absolute paths, or such as hold where the command runs.
        source: the recipe's file, for errors.

    Raises:
        UserError: names the key and the path.
    """
    _check_pairs(recipe, source)
    data = recipe.data
    given = [("data", data.pairs, data.images)]
    given += [(f"data.clients.{number}", own.pairs, own.images) for number, own in enumerate(data.clients)]
    for key, pairs, images in given:
        for path in pairs if isinstance(pairs, list) else [pairs] if pairs else []:
            patterned = data.format != "llava" and _PATTERN & set(str(path))
            if not patterned and not path.exists():
                raise UserError(f"{source}: {key}.pairs = {str(path)!r}: no such file or folder")
            named = _FORMATS.get(path.suffix.lower(), data.format)
            if named != data.format and not path.is_dir():
                raise UserError(
                    f"{source}: {key}.pairs = {str(path)!r}: is not in the format {data.format!r}; if its name "
                    f'is right, set data.format = "{named}"'
                )
        _need_folder(images, f"{source}: {key}.images")
    _need_folder(recipe.scenario.manifest, f"{source}: scenario.manifest")
    for file, key in (
        (recipe.evaluation.questions, "evaluation.questions"),
        (recipe.model.projector_from, "model.projector_from"),
    ):
        if file is not None and not file.exists():
            raise UserError(f"{source}: {key} = {str(file)!r}: no such file or folder")
    _check_model(recipe.model.vision, "vision")
    _check_model(recipe.model.language, "language")
    _check_room(recipe.run.place, f"{source}: run.folder = {str(recipe.run.folder)!r}")
    if recipe.run.cache is not None:
        _check_room(recipe.run.cache.expanduser(), f"{source}: run.cache = {str(recipe.run.cache)!r}")
    elif cache := os.environ.get("FEDCMP_CACHE"):
        _check_room(Path(cache), f"$FEDCMP_CACHE = {cache!r}")


def _check_pairs(recipe: Recipe, source: str) -> None:
    """Refuse fewer pairs than any division could give all clients in all rounds."""
    count, rounds = recipe.data.num_pairs, recipe.federation.rounds
    clients = len(recipe.data.clients) or recipe.scenario.clients
    if recipe.scenario.kind != "manifest" and count is not None and count < clients * rounds:
        raise UserError(
            f"{source}: data.num_pairs = {count}: {counted(clients, 'client')} cannot hold one pair for each round, "
            f"fewer than federation.rounds = {rounds}; use more pairs, fewer clients or fewer rounds"
        )


def _check_model(name: str, part: str) -> None:
    key = f"model.{part}"
    where = resolve(name, "vision" if part == "vision" else "language", key)
    if name != EMBEDDED and Path(where).is_dir():
        check_weights(Path(where), f"{key} = {name!r}")


def _need_folder(path: Path | None, place: str) -> None:
    if path is not None and not path.is_dir():
        why = "is a file; name a folder" if path.exists() else "no such folder"
        raise UserError(f"{place} = {str(path)!r}: {why}")


def _check_room(folder: Path, place: str) -> None:
    """Refuse a folder that cannot be made or written: a file is in its way, or the rights are missing."""
    above = folder.absolute()
    while not above.exists() and above != above.parent:
        above = above.parent
    if not above.is_dir():
        raise UserError(f"{place}: {above} is a file; name another folder")
    if not os.access(above, os.W_OK | os.X_OK):
        raise UserError(f"{place}: {above} cannot be written; name another folder")
