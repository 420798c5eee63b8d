"""The verb `fedcmp init`: a recipe for one's own data."""

from pathlib import Path
from typing import Annotated

import typer

from fedcmp.cli.output import begin, note, result
from fedcmp.errors import UserError
from fedcmp.files import write_whole


def init_command(
    folder: Annotated[
        Path,
        typer.Argument(
            help="Folder with your pairs: one collection, or one subfolder per organisation.", show_default=False
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Recipe to write; must not exist. Default: FOLDER/recipe.toml.")
    ] = None,
    vision: Annotated[
        str | None, typer.Option(help="Image encoder: 'world', a folder or a hub name.", show_default=False)
    ] = None,
    language: Annotated[
        str | None, typer.Option(help="LLM: 'world', a folder or a hub name.", show_default=False)
    ] = None,
) -> None:
    """Write a recipe for your own images and captions, from what FOLDER holds.

    Reads LLaVA JSON or JSONL with an image folder, WebDataset tars and parquet files; with one subfolder per
    organisation, each becomes a client. Nothing is trained, moved or overwritten.

    Example: fedcmp init consortium/
    Then: fedcmp train consortium/recipe.toml --plan
    """
    path = folder / "recipe.toml" if out is None else out
    if path.exists() or path.is_symlink():
        raise UserError(f"{path}: is there already and is not overwritten; remove it, or give --out another name")
    begin(f"{folder}: looking for pairs")
    from fedcmp.config.own_data import own_recipe

    written = own_recipe(folder, path, vision=vision, language=language, say=begin)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, written.text.encode())
    for remark in written.remarks:
        note(remark)
    result(f"recipe: {path}")
