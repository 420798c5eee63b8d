"""The verb `fedcmp config`: what a recipe's keys mean."""

from typing import Annotated

import typer


def config_command(
    key: Annotated[
        str | None,
        typer.Argument(help="A key, a section or a method, for example federation.rounds.", show_default=False),
    ] = None,
    study: Annotated[bool, typer.Option("--study", help="Keys of a study's recipe instead of a run's.")] = False,
    site: Annotated[bool, typer.Option("--site", help="Keys of a site's or an edge server's file instead.")] = False,
) -> None:
    """Explain the keys of a recipe: meaning, type and default.

    Without KEY, all of them.

    Example: fedcmp config training.learning_rate
    A section, a method's options: fedcmp config federation, fedcmp config shared-basis
    """
    from fedcmp.config import Recipe
    from fedcmp.config.keys import Key, find_keys, method_lines, recipe_keys
    from fedcmp.config.methods import available_methods

    if study:
        from fedcmp.study.recipe import StudyRecipe

        keys = recipe_keys(StudyRecipe) if key is None else find_keys(StudyRecipe, key)
    elif site:
        from fedcmp.deployment.edge_file import EdgeServer
        from fedcmp.deployment.site_file import Site

        if key is None:
            keys = [*recipe_keys(Site), *find_keys(EdgeServer, "edge")]
        else:
            keys = find_keys(EdgeServer if key.partition(".")[0] == "edge" else Site, key)
    elif key is not None and key.removeprefix("method.") in available_methods():
        typer.echo("\n".join(method_lines(key.removeprefix("method."))))
        return
    else:
        keys = recipe_keys(Recipe) if key is None else find_keys(Recipe, key)

    def line(one: Key) -> str:
        explained = "default: " in one.meaning  # what holds where the key is not given
        none = "" if explained else "; no default"
        default = "; required" if one.required else f"; default {one.default}" if one.default else none
        return f"{one.place}\n    {one.type}{default}" + (f"\n    {one.meaning}" if one.meaning else "")

    typer.echo("\n".join(line(one) for one in keys))
