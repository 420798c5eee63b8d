"""The verb `fedcmp train`: a recipe's runs from the first pair to the report."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedcmp.cli.options import Override, RecipeFile
from fedcmp.cli.output import begin, note, result
from fedcmp.cli.ranks import listen_to_launcher, serve_rank
from fedcmp.distributed import Group, joined, launched, ranks_here
from fedcmp.errors import counted

if TYPE_CHECKING:
    from fedcmp.config import Recipe


def train_command(
    recipe: RecipeFile,
    option: Override = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue an interrupted run from its last complete round.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier run of that name once the data are prepared.")
    ] = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="Estimate memory, disk space and network traffic, then stop.")
    ] = False,
) -> None:
    """Train a projector with every method of a recipe, then print the results and write the report.

    Example: fedcmp train recipes/demo.toml -o federation.rounds=5
    Several GPUs or machines: torchrun --nproc-per-node 4 -m fedcmp train recipe.toml
    """
    if plan:
        if launched()[0] == 0:
            _say_plan(recipe, option or [])
        return
    with joined() as group:
        if group.size > 1:
            listen_to_launcher(group)
        if group.rank:
            serve_rank(group)
        else:
            _train(recipe, option or [], resume=resume, overwrite=overwrite, group=group)


def _say_plan(recipe: Path, option: list[str]) -> None:
    from fedcmp.config import load_recipe

    loaded = load_recipe(recipe, option)
    _check_simulated(loaded)
    begin(f"{loaded.run.place}: estimating what the run needs")
    from fedcmp.cli.steps import Steps
    from fedcmp.planning.demand import Ranks
    from fedcmp.planning.preflight import plan_run

    with Steps() as steps:
        planned = plan_run(loaded, ranks=Ranks(launched()[1], ranks_here()), progress=steps.preparing)
    for line in planned.lines:
        result(line)
    planned.check()


def _train(recipe: Path, option: list[str], *, resume: bool, overwrite: bool, group: Group) -> None:
    from fedcmp.config import load_recipe
    from fedcmp.runs.place import check_own_recipe, check_place
    from fedcmp.runs.versions import remark_on_versions
    from fedcmp.simulation.processes import start_workers

    loaded = load_recipe(recipe, option, present=True)
    check_own_recipe(recipe, loaded, overwrite=overwrite)
    _check_simulated(loaded)
    if remark := remark_on_versions(recipe):
        note(remark)
    check_place(loaded, resume=resume, overwrite=overwrite)  # before seconds of loading libraries, and again by train
    begin(_what_runs(loaded))
    again = shlex.join(["fedcmp", "train", str(recipe), *(part for o in option for part in ("-o", o))])
    if group.size > 1:
        again = "the same torchrun command,"
    earlier = _begun(loaded.run.place) if overwrite else None  # it is replaced once the pairs are prepared
    try:
        # the workers load their libraries while this process loads its own
        with start_workers(loaded.run.workers if group.size == 1 else 0, loaded.run.place / "prepared") as processes:
            from fedcmp.cli.progress import Display
            from fedcmp.simulation.train import train

            with Display(loaded) as display:
                folder = train(
                    loaded,
                    resume=resume,
                    overwrite=overwrite,
                    events=display,
                    progress=display.preparing,
                    group=group,
                    processes=processes,
                )
    except KeyboardInterrupt:
        note("")
        replacing = earlier is not None and _begun(loaded.run.place) == earlier
        note(_interrupted(loaded.run.place, again, replacing=replacing))
        raise
    from fedcmp.cli.report import print_summary
    from fedcmp.report.writing import write_report  # what it draws with takes half a second to load

    page = write_report(folder)
    print_summary(folder)
    result(f"report: {page}")


def _check_simulated(recipe: "Recipe") -> None:
    """Say that the sites of a deployment are only simulated here, or refuse where this machine has no pairs for it."""
    recipe.check_own_pairs()
    if recipe.deployment.sites:
        sites = counted(len(recipe.deployment.sites), "site")
        note(f"deployment: simulating the {sites} with the pairs of [data]; `fedcmp serve` runs them on their machines")


def _begun(place: Path) -> tuple[int, int] | None:
    """Return what tells the run at this place from one that replaces it; None where there is none."""
    try:
        status = (place / "recipe.toml").stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def _interrupted(place: Path, again: str, *, replacing: bool) -> str:
    """Return what is left of an interrupted run, and how it is continued.

    Args:
        place: the run's folder.
        again: the command, without --resume and --overwrite.
        replacing: whether an earlier run is still there that was to be replaced.
    """
    from fedcmp.runs.place import preparing_place

    if replacing:
        return f"interrupted; the earlier run in {place} is still there. To begin again: {again} --overwrite"
    if (place / "recipe.toml").exists():
        return f"interrupted; what is finished is kept in {place}. To continue: {again} --resume"
    if preparing_place(place).exists():
        return f"interrupted while the run was prepared. To continue: {again} --resume"
    return f"interrupted before the run began. To begin it: {again}"


def _what_runs(recipe: "Recipe") -> str:
    run, data = recipe.run, recipe.data
    methods = ", ".join(run.methods[:3]) + (f" and {len(run.methods) - 3} more" if len(run.methods) > 3 else "")
    clients = len(data.clients) or recipe.scenario.clients
    who = "" if recipe.scenario.kind == "manifest" else f"{counted(clients, 'client')}, "
    return f"{run.place}: {methods}; {who}{counted(recipe.federation.rounds, 'round')}; loading libraries"
