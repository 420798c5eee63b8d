"""The verb `fedcmp demo`: the shipped demo, from any folder."""

from typing import Annotated

import typer

from fedcmp.cli.options import Override
from fedcmp.shipped import shipped_recipe


def demo_command(
    option: Override = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted demo.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier demo once the data are prepared.")
    ] = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="Estimate memory, disk space and network traffic, then stop.")
    ] = False,
) -> None:
    """Run the demo: five clients and five methods on the embedded world, in two minutes; writes runs/demo here.

    Needs no data, no GPU and no network. Same as `fedcmp train` with the recipe that `fedcmp recipes demo` prints.

    Example: fedcmp demo
    Smaller: fedcmp demo -o data.num_pairs=2000 -o federation.rounds=3
    """
    from fedcmp.cli.train import train_command

    train_command(shipped_recipe("demo").path, option=option, resume=resume, overwrite=overwrite, plan=plan)
