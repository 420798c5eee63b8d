"""The line that every page, table and caption of the embedded world carries, so that nobody takes it for more."""

from collections.abc import Iterable, Mapping
from typing import Any

from fedcmp.runs.fields import table

_EMBEDDED = "world"  # what a recipe calls the embedded scenes and the embedded frozen parts
_SCENES, _MODELS = "drawn scenes of 48 x 48 pixels", "frozen models of 4 MB"
_UNTOUCHED = " of families and styles that neither the frozen models nor any tuning saw"
TOY_WORLD = f"Toy world: {_SCENES}, {_MODELS}."


def brought_by_sites(recipe: Mapping[str, Any]) -> bool:
    """Return whether the pairs are those of a deployment's sites, of which a recipe says nothing."""
    data = table(recipe.get("data"))
    named = data.get("clients") or data.get("num_pairs") or data.get("pairs")
    return bool(table(recipe.get("deployment")).get("sites")) and not named


def toy_line(recipes: Iterable[Mapping[str, Any]]) -> str:
    """Say what of the recipes is the embedded toy world; "" where nothing is.

    A recipe that does not say which data or frozen models it takes has the embedded ones; nothing is known of a run
    without a recipe.
    """
    given = [recipe for recipe in recipes if recipe]
    scenes = [_value(recipe, "data", "format") == _EMBEDDED and not brought_by_sites(recipe) for recipe in given]
    models = [_EMBEDDED in (_value(recipe, "model", "vision"), _value(recipe, "model", "language")) for recipe in given]
    drawn = [recipe for recipe, found in zip(given, scenes, strict=True) if found]
    untouched = [table(recipe.get("data")).get("world") == "untouched" for recipe in drawn]
    said = _SCENES + (_UNTOUCHED if untouched and all(untouched) else "")
    parts = [part for part, found in ((said, scenes), (_MODELS, models)) if any(found)]
    if not parts:
        return ""
    some = "" if all(scenes) == any(scenes) and all(models) == any(models) else "Some of these runs: "
    if len(parts) == 2:
        return f"{some}{'toy' if some else 'Toy'} world: {', '.join(parts)}."
    return f"{some}{'toy' if some else 'Toy'} {'world' if parts == [said] else 'models'}: {parts[0]}."


def _value(recipe: Mapping[str, Any], section: str, key: str) -> object:
    return table(recipe.get(section)).get(key, _EMBEDDED)
