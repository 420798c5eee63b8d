"""The verb `fedcmp recipes`: the recipes that come with the package, listed, printed or copied."""

from pathlib import Path
from typing import Annotated

import typer

from fedcmp.cli.output import result
from fedcmp.errors import UserError
from fedcmp.files import write_whole
from fedcmp.shipped import shipped_recipe, shipped_recipes


def recipes_command(
    name: Annotated[str | None, typer.Argument(help="Recipe to print, for example demo.", show_default=False)] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write NAME to this new file or folder instead.", show_default=False)
    ] = None,
) -> None:
    """List the recipes that come with fedcmp, or print or copy one.

    Example: fedcmp recipes
    Example: fedcmp recipes demo --out my-demo.toml
    """
    if name is None:
        if out is not None:
            raise UserError("--out: name the recipe to copy, for example `fedcmp recipes demo --out demo.toml`")
        for recipe in shipped_recipes().values():
            result(f"{recipe.name:<16}{recipe.verb:<8}{recipe.summary}")
        return
    recipe = shipped_recipe(name)
    if out is None:
        typer.echo(recipe.path.read_text(encoding="utf-8"), nl=False)
        return
    path = out / recipe.path.name if out.is_dir() else out
    if path.exists():
        raise UserError(f"{path}: is there already; give --out another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, recipe.path.read_bytes())
    result(f"recipe: {path}")
