"""Arguments and options that several verbs share, and a check of their numbers."""

from pathlib import Path
from typing import Annotated

import typer

from fedcmp.errors import UserError

RecipeFile = Annotated[Path, typer.Argument(help="Recipe of the run (a TOML file).", show_default=False)]
RunFolderArgument = Annotated[Path, typer.Argument(help="Folder of a run, such as runs/demo.", show_default=False)]
Override = Annotated[
    list[str] | None,
    typer.Option("-o", "--option", help="Override a recipe key: section.key=value.", show_default=False),
]
Device = Annotated[str, typer.Option(help="Device: auto, cpu, cuda, cuda:1 ...")]
Client = Annotated[
    int | None,
    typer.Option(help="Client whose projector to use (local runs).", show_default=False),
]
Round = Annotated[str, typer.Option("--round", help="Round: last, best (lowest held-out loss) or a number.")]


def check_numbers(**given: float | None) -> None:
    """Refuse numbers that are far above anybody's need, such as 2^70; their help stays free of bounds.

    Args:
        given: option's name with underscores -> its value.

    Raises:
        UserError: names the option.
    """
    for name, value in given.items():
        most = 2**63 - 1 if name == "seed" else 10**10
        if value is not None and not -most <= value <= most:
            raise UserError(f"--{name.replace('_', '-')} {value}: must be a number of at most {most}")
