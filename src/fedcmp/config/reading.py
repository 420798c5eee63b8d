"""Recipes from and to TOML files."""

import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import ValidationError

from fedcmp.checksums import check_toml
from fedcmp.config.mistakes import first_mistake
from fedcmp.config.places import check_places
from fedcmp.config.recipe import NAMES_ONLY, Recipe
from fedcmp.errors import UserError
from fedcmp.shipped import shipped_recipes

VERSIONS = "versions"  # the table that a run adds to its own recipe

_LONGEST = 16_000_000  # bytes of a recipe


def load_recipe(path: Path, overrides: list[str] | None = None, *, present: bool = False) -> Recipe:
    """Read, override and check a recipe.

    Relative paths are taken from the recipe's own folder; model.vision and model.language too where such a folder is
    there, else they stay as typed: a folder where the command runs, or a hub name. Torch is loaded only where options
    of a method are set, once all else is known to be right.

    Args:
        path: a TOML file.
        overrides: "section.key=value" texts, the value in TOML's spelling; bare words are taken as strings.
        present: check also that the files and folders which the recipe names are there (places.py).

    Raises:
        UserError: no such file, no TOML, an unknown key, a wrong type, an impossible combination: names the key.
    """
    content = read_toml(path, overrides)
    recipe = _checked(content, str(path), names_only=True)
    try:
        recipe = from_folder(recipe, path.resolve().parent)
        if present:
            check_places(recipe, str(path))
    except OSError as error:  # a name that is too long, a folder that may not be looked into
        raise UserError(f"{path}: names {error.filename}: {error.strerror}; check the path") from error
    try:
        recipe.check_option_values()
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error
    return recipe


def read_toml(path: Path, overrides: list[str] | None = None) -> dict[str, Any]:
    """Return a recipe's tables before any check of its keys.

    The versions that a run noted in its own recipe are left out: they describe and set nothing.

    Raises:
        UserError: no such file, no TOML, or an override of another form than "section.key=value".
    """
    try:
        with path.open("rb") as file:
            raw = file.read(_LONGEST + 1)
    except FileNotFoundError as error:
        copied = f"; `fedcmp recipes {path.stem} --out {path.stem}.toml` copies the one that comes with fedcmp"
        raise UserError(f"{path}: no such recipe file{copied if path.stem in shipped_recipes() else ''}") from error
    except IsADirectoryError as error:
        there = sorted(path.glob("*.toml"), key=lambda file: (file.name != "recipe.toml", file.name))
        inside = next((file for file in there if file.is_file()), None)
        named = f"the recipe in it: {inside}" if inside else "the recipe, a TOML file"
        raise UserError(f"{path}: is a folder; name {named}") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    if len(raw) > _LONGEST:
        raise UserError(f"{path}: is larger than {_LONGEST // 10**6} MB; is it a recipe?")
    try:
        content = tomllib.loads(raw.decode("utf-8-sig"))  # editors on Windows write a mark in front
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 text ({error.reason} at byte {error.start})") from error
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path}: not valid TOML: {error}") from error
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, lists in lists without end
        raise UserError(f"{path}: not valid TOML: {error}") from error
    content.pop(VERSIONS, None)
    for text in overrides or []:
        override(content, text)
    return content


def parse_recipe(content: dict[str, Any], source: str) -> Recipe:
    """Return a recipe from parsed TOML.

    Raises:
        UserError: names `source` and the key of the first mistake.
    """
    return _checked(content, source, names_only=False)


def _checked(content: dict[str, Any], source: str, *, names_only: bool) -> Recipe:
    if "study" in content and "run" not in content:
        raise UserError(f"{source}: is the recipe of a study; run it with `fedcmp study {source}`")
    try:
        recipe = Recipe.model_validate(content, context=NAMES_ONLY if names_only else None)
    except ValidationError as error:
        raise UserError(f"{source}: {first_mistake(error, content, Recipe)}") from error
    counted = len(recipe.deployment.sites) or len(recipe.data.clients)
    if counted:  # whatever scenario.clients says
        scenario = recipe.scenario.model_copy(update={"clients": counted})
        recipe = recipe.model_copy(update={"scenario": scenario})
    return recipe


def dump_recipe(recipe: Recipe, **extra: dict[str, Any]) -> str:
    """Return the resolved recipe as TOML, with further tables (versions, the manifest's hash) at its end."""
    return tomli_w.dumps(_plain(recipe.model_dump(mode="python") | extra))


def _plain(value: Any) -> Any:
    """Return what TOML can say: paths as strings, no None, numbers (inf too) as they are."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return str(value) if isinstance(value, Path) else value


def read_dumped(path: Path) -> Recipe:
    """Return a recipe from a file that `dump_recipe` wrote.

    Raises:
        UserError: the file is missing or torn, or not what was written.
    """
    try:
        text = path.read_text(encoding="utf-8")
        check_toml(text)
        content = tomllib.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not a readable recipe ({error}); start the run again with --overwrite") from error
    content.pop(VERSIONS, None)
    return parse_recipe(content, str(path))


def override(content: dict[str, Any], text: str) -> None:
    """Set "section.key=value" in parsed TOML.

    Raises:
        UserError: not of that form.
    """
    key, separator, value = text.partition("=")
    names = key.strip().split(".")
    if not separator or not all(names) or len(names) < 2:
        raise UserError(f"-o {text}: write section.key=value, for example -o training.learning_rate=0.003")
    try:
        tables = tomllib.loads(f"value = {value.strip()}")
    except tomllib.TOMLDecodeError:
        tables = {"value": value.strip()}
    except (ValueError, RecursionError) as error:
        raise UserError(f"-o {text[:200]}: not a value of TOML ({error})") from error
    if len(tables) > 1:
        raise UserError(f"-o {text}: sets several values; give each with an -o of its own")
    parsed = tables["value"]
    table: Any = content
    for name, after in pairwise(names):
        table = table.setdefault(name, {}) if isinstance(table, dict) else table[int(name)]
        if isinstance(table, list):  # data.clients.0.images, as errors name it
            if not after.isdecimal() or int(after) >= len(table):
                raise UserError(f"-o {text}: {name} is a list; name one of its {len(table)} entries by number, from 0")
        elif not isinstance(table, dict):
            raise UserError(f"-o {text}: {name} is a value, not a section")
    if isinstance(table, list):
        table[int(names[-1])] = parsed
        return
    table[names[-1]] = parsed


def from_folder(recipe: Recipe, folder: Path) -> Recipe:
    """Take relative paths of data and models from the recipe's folder; the runs' folder is that of the command."""

    def at(path: Path) -> Path:
        path, start = path.expanduser(), folder
        while path.parts[:1] == ("..",):  # no other "..": behind a link it leads elsewhere
            path, start = Path(*path.parts[1:]), start.parent
        return path if path.is_absolute() else start / path

    def each(paths: Path | list[Path] | None) -> Path | list[Path] | None:
        return [at(p) for p in paths] if isinstance(paths, list) else at(paths) if paths else None

    def frozen_part(name: str) -> str:
        here = at(Path(name))
        return str(here) if name != "world" and here.is_dir() else name

    data = recipe.data
    clients = [c.model_copy(update={"pairs": each(c.pairs), "images": each(c.images)}) for c in data.clients]
    moved = data.model_copy(update={"pairs": each(data.pairs), "images": each(data.images), "clients": clients})
    questions = each(recipe.evaluation.questions)
    evaluation = recipe.evaluation.model_copy(update={"questions": questions})
    parts = {key: frozen_part(getattr(recipe.model, key)) for key in ("vision", "language")}
    model = recipe.model.model_copy(update=parts | {"projector_from": each(recipe.model.projector_from)})
    scenario = recipe.scenario.model_copy(update={"manifest": each(recipe.scenario.manifest)})
    return recipe.model_copy(update={"data": moved, "model": model, "evaluation": evaluation, "scenario": scenario})
