"""Recipes from and to TOML files."""

import tomllib
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import ValidationError

from fedcmp.config.mistakes import first_mistake
from fedcmp.config.recipe import Recipe
from fedcmp.errors import UserError


def load_recipe(path: Path, overrides: list[str] | None = None) -> Recipe:
    """Read, override and check a recipe.

    Relative paths are taken from the recipe's own folder; model.vision and model.language too where such a folder is
    there, else they stay as typed: a folder where the command runs, or a hub name.

    Args:
        path: a TOML file.
        overrides: "section.key=value" texts, the value in TOML's spelling; bare words are taken as strings.

    Raises:
        UserError: no such file, no TOML, an unknown key, a wrong type, an impossible combination: names the key.
    """
    content = read_toml(path, overrides)
    recipe = parse_recipe(content, str(path))
    return _from_folder(recipe, path.resolve().parent)


def read_toml(path: Path, overrides: list[str] | None = None) -> dict[str, Any]:
    """A recipe's tables before any check of its keys.

    Raises:
        UserError: no such file, no TOML, or an override of another form than "section.key=value".
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such recipe file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path}: not valid TOML: {error}") from error
    for text in overrides or []:
        override(content, text)
    return content


def parse_recipe(content: dict[str, Any], source: str) -> Recipe:
    """A recipe from parsed TOML.

    Raises:
        UserError: names `source` and the key of the first mistake.
    """
    try:
        recipe = Recipe.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{source}: {first_mistake(error, content, Recipe)}") from error
    if recipe.data.clients:  # they are counted, whatever scenario.clients says
        scenario = recipe.scenario.model_copy(update={"clients": len(recipe.data.clients)})
        recipe = recipe.model_copy(update={"scenario": scenario})
    return recipe


def dump_recipe(recipe: Recipe, **extra: dict[str, Any]) -> str:
    """The resolved recipe as TOML, with further tables (versions, the manifest's hash) at its end."""
    return tomli_w.dumps(_plain(recipe.model_dump(mode="python") | extra))


def _plain(value: Any) -> Any:
    """What TOML can say: paths as strings, no None, numbers (inf too) as they are."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return str(value) if isinstance(value, Path) else value


def read_dumped(path: Path) -> Recipe:
    """A recipe from a file that `dump_recipe` wrote.

    Raises:
        UserError: the file is missing or torn.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a readable recipe ({error}); start the run again with --overwrite") from error
    content.pop("versions", None)
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
        parsed = tomllib.loads(f"value = {value.strip()}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()
    table = content
    for name in names[:-1]:
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            raise UserError(f"-o {text}: {name} is a value, not a section")
    table[names[-1]] = parsed


def _from_folder(recipe: Recipe, folder: Path) -> Recipe:
    """Paths of data and models are relative to the recipe; the runs' folder to where the command is typed."""

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
