"""The verb `fedcmp study`: methods x scenarios x seeds."""

from pathlib import Path
from typing import Annotated

import typer

from fedcmp.cli.options import Override, check_numbers
from fedcmp.cli.output import begin, note, result
from fedcmp.errors import UserError, counted
from fedcmp.extras import require


def study_command(
    recipe: Annotated[Path, typer.Argument(help="Recipe of the study (a TOML file).", show_default=False)],
    option: Override = None,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Run this scenario only. Can be repeated. Default: all.", show_default=False),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(min=0, help="Start no new run after this many minutes. Default: no limit."),
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="List the runs that are missing, then stop.")] = False,
    unpack: Annotated[
        Path | None,
        typer.Option(help="Published study (.jsonl) to start from: its runs are not repeated.", show_default=False),
    ] = None,
    pack: Annotated[
        Path | None,
        typer.Option(help="Write all runs to this file (.jsonl), with its tables (.md).", show_default=False),
    ] = None,
    slurm: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="JOBS", help="Number of Slurm jobs to submit; they share the runs.", show_default=False
        ),
    ] = None,
    slurm_option: Annotated[
        list[str] | None,
        typer.Option(help="Of each job: partition=gpu, timeout_min=600 ... Can be repeated.", show_default=False),
    ] = None,
) -> None:
    """Compare methods over scenarios and seeds: tune each method alike, run them all, write tables and figures.

    The same command again continues: runs that have ended are not repeated. The same command at the same time, here or
    on other machines that see the folder, shares the runs.

    Example: fedcmp study recipes/study.toml --only image --minutes 60
    Published runs: fedcmp study recipes/study.toml --unpack results/study.jsonl
    """
    check_numbers(minutes=minutes, slurm=slurm)
    if slurm is None and slurm_option:
        raise UserError("--slurm-option: is of the jobs that --slurm submits; add --slurm JOBS")
    if slurm is not None and pack is not None:
        raise UserError("--pack: cannot be written before the jobs have ended; give it without --slurm then")
    from fedcmp.study.recipe import load_study

    loaded = load_study(recipe, option)
    begin(f"{loaded.study.folder}: {counted(len(loaded.scenario), 'scenario')}; loading libraries")
    for module in ("openTSNE", "sklearn", "pyarrow"):
        require(module, "study", "a study")
    from fedcmp.report.study import write_study_report
    from fedcmp.study.packing import pack_study, unpack_study
    from fedcmp.study.plan import check_settings
    from fedcmp.study.runner import Study
    from fedcmp.study.sharing import OutOfTime
    from fedcmp.study.submitting import job_command, job_parameters, submit

    check_settings(loaded, str(recipe))
    study = Study(loaded, note, only=only, minutes=minutes)
    if unpack is not None:
        unpack_study(unpack, study.files.folder)
    if plan:
        for line in study.estimate().split("\n"):
            result(line)
        return
    if slurm is not None:
        parameters = job_parameters(
            slurm_option or [], name=loaded.study.name, workers=loaded.study.workers, minutes=minutes
        )
        note(f"{study.estimate(processes=slurm)}, by {counted(slurm, 'job')}")
        command = job_command(recipe, options=option or [], only=only or [], minutes=minutes)
        jobs = study.files.folder / "jobs"
        for job in submit(command, parameters, jobs=slurm, folder=jobs):
            result(f"job {job.job_id}: {jobs / job.job_id}")
        return
    try:
        study.run()
    except OutOfTime:
        note("fedcmp: time is up; give the same command again to continue")
    with study.files.claims() as claims, claims.turn("report"):
        for path in write_study_report(study.files.folder):
            result(f"report: {path}")
        if pack is not None:
            result(f"packed: {pack}, {pack_study(study.files.folder, pack)}")
