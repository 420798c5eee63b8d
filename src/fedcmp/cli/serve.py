"""The verb `fedcmp serve`: the server of a federation between machines, or a lab to try one."""

from pathlib import Path
from typing import Annotated

import typer

from fedcmp.cli.output import begin, note, result
from fedcmp.errors import UserError
from fedcmp.extras import require


def serve_command(
    recipe: Annotated[Path | None, typer.Argument(help="Recipe of the run (a TOML file).", show_default=False)] = None,
    home: Annotated[
        Path | None,
        typer.Option(help="Server's folder: certificates, keys, runs. Default: the recipe's.", show_default=False),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run that is there; begin it if there is none.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier run of that name.")] = False,
    address: Annotated[str, typer.Option(help="Address of this machine to listen on; 0.0.0.0: all.")] = "0.0.0.0",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port that sites connect to.")] = 8443,
    new_lab: Annotated[
        Path | None,
        typer.Option("--new-lab", help="Write a federation to try on one machine, then stop.", show_default=False),
    ] = None,
    sites: Annotated[int, typer.Option(min=1, max=20, help="With --new-lab: number of sites.")] = 3,
    pairs: Annotated[int, typer.Option(min=20, max=100_000, help="With --new-lab: pairs per site.")] = 400,
) -> None:
    """Run the server of a federation: sites that `fedcmp join` connects train, this merges.

    What dies is started again, and the run resumes.

    Example: fedcmp serve federation.toml --port 8443
    Try it on one machine: fedcmp serve --new-lab lab/ --sites 3
    """
    if (recipe is None) == (new_lab is None):
        raise UserError("serve: give the recipe of a run, or --new-lab DIR to write a federation to try")
    for module in ("cryptography", "flwr"):
        require(module, "deployment", "serve")
    if new_lab is not None:
        _lab(new_lab, sites, pairs, port)
        return
    assert recipe is not None
    from fedcmp.config import load_recipe
    from fedcmp.deployment.addresses import check_host

    try:
        check_host(address)
    except ValueError as error:
        raise UserError(f"--address {error}") from None
    loaded = load_recipe(recipe, present=True)
    begin(f"{home or recipe.parent}: starting the server of {recipe}")
    from fedcmp.deployment.hosting import Address
    from fedcmp.deployment.server_folder import open_server_folder
    from fedcmp.deployment.serving import Work, serve

    folder = open_server_folder(home or recipe.parent)
    try:
        place = serve(folder, Work(recipe.absolute(), loaded, resume, overwrite), Address(address, port), note)
    except KeyboardInterrupt:
        note("")
        note(f"stopped; what is finished is kept. To continue: fedcmp serve {recipe} --resume")
        raise
    from fedcmp.cli.report import print_summary
    from fedcmp.report.writing import write_report

    page = write_report(place)
    print_summary(place)
    result(f"report: {page}")


def _lab(folder: Path, sites: int, pairs: int, port: int) -> None:
    require("pyarrow", "parquet", "serve --new-lab")
    begin(f"{folder}: drawing {pairs:,} pairs for each site")
    from fedcmp.cli.steps import Steps
    from fedcmp.deployment.lab import new_lab

    with Steps() as steps:
        lab = new_lab(
            folder,
            sites=sites,
            pairs=pairs,
            port=port,
            on_progress=lambda done, total: steps.preparing("drawing images", done, total),
        )
    for path in lab.site_files:
        result(f"site: {path}")
    result(f"server: {lab.recipe.parent}")
    result("")
    result("Next, each in a terminal of its own:")
    for line in lab.commands:
        result(f"  {line}")
