"""The recipes that come with the package: their names, files, and what each is for. Loads no library."""

import difflib
from dataclasses import dataclass
from pathlib import Path

from fedcmp.errors import UserError

FOLDER = Path(__file__).parent / "recipes"


@dataclass(frozen=True)
class ShippedRecipe:
    """Describe one recipe of the package.

    Attributes:
        name: as people type it, without ".toml".
        path: its file; not to be written to.
        summary: the first sentence of its first comment.
        verb: the command that runs it, "train" or "study".
    """

    name: str
    path: Path
    summary: str
    verb: str


def shipped_recipes() -> dict[str, ShippedRecipe]:
    """Return the package's recipes by name, the demo first."""
    found = [_read(path) for path in FOLDER.glob("*.toml")]
    return {
        recipe.name: recipe
        for recipe in sorted(found, key=lambda one: (one.name != "demo", one.verb == "study", one.name))
    }


def shipped_recipe(name: str) -> ShippedRecipe:
    """Return one of the package's recipes.

    Raises:
        UserError: there is none of that name.
    """
    known = shipped_recipes()
    found = known.get(name.removesuffix(".toml"))
    if found is None:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
        raise UserError(f"{name}: no recipe of that name comes with fedcmp; {hint}")
    return found


def _read(path: Path) -> ShippedRecipe:
    text = path.read_text(encoding="utf-8")
    comment = []
    for line in text.splitlines():
        if not line.startswith("#") or not line.strip("# "):
            break
        comment.append(line.lstrip("# "))
    summary = " ".join(comment).partition(". ")[0].rstrip(".") + "."
    return ShippedRecipe(path.stem, path, summary, "study" if "\n[study]\n" in text else "train")
