"""The command line: one verb a user's action. A verb parses, calls one function, prints.

Results go to stdout, progress to stderr. Exit code 0; 2 for the user's mistake, told in one line; 1 for ours; 130 after
Ctrl-C.
"""

import logging
import os
import shlex
import sys
import traceback
from pathlib import Path
from typing import Annotated, Literal

import typer

from fedcmp import __version__
from fedcmp.cli.evaluate import evaluate_command
from fedcmp.cli.ranks import listen_to_launcher, serve_rank
from fedcmp.cli.report import print_summary, report_command
from fedcmp.cli.scenario import scenario_app
from fedcmp.distributed import Group, joined, launched, ranks_here
from fedcmp.errors import UserError, WorkerDied, WorkerFailed

app = typer.Typer(
    name="fedcmp",
    help="Pretrain one multimodal LLM together: clients train projectors on their own pairs, a server merges them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
world_app = typer.Typer(
    name="world", help="The embedded world: scenes, and the tiny frozen parts.", no_args_is_help=True
)
app.add_typer(world_app)
app.add_typer(scenario_app)
app.command("evaluate")(evaluate_command)
app.command("report")(report_command)

RecipeFile = Annotated[Path, typer.Argument(help="The recipe, a TOML file.", show_default=False)]
RunFolderArgument = Annotated[Path, typer.Argument(help="A run's folder, for example runs/demo.", show_default=False)]
Override = Annotated[
    list[str] | None,
    typer.Option("-o", "--option", help="Replace a recipe value: section.key=value. Repeatable.", show_default=False),
]


def _version(value: bool) -> None:
    if value:
        typer.echo(f"fedcmp {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """What every verb shares."""
    del version
    if launched()[1] > 1 and context.invoked_subcommand != "train":
        raise UserError(f"{context.invoked_subcommand}: only `train` runs in several processes: leave torchrun out")


@app.command("train")
def train_command(
    recipe: RecipeFile,
    option: Override = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Remove an earlier run of that name first.")] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Say what the run will need, and run nothing.")] = False,
) -> None:
    """Run every method of a recipe, then print the table and write the report.

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
    from fedcmp.planning.demand import Ranks
    from fedcmp.planning.preflight import plan_run

    planned = plan_run(load_recipe(recipe, option), ranks=Ranks(launched()[1], ranks_here()))
    typer.echo("\n".join(planned.lines))
    planned.check()


def _train(recipe: Path, option: list[str], *, resume: bool, overwrite: bool, group: Group) -> None:
    from fedcmp.config import load_recipe
    from fedcmp.runs.place import check_place
    from fedcmp.simulation.processes import start_workers

    loaded = load_recipe(recipe, option)
    check_place(loaded, resume=resume, overwrite=overwrite)  # before seconds of loading libraries, and again by train
    again = shlex.join(["fedcmp", "train", str(recipe), *(part for o in option for part in ("-o", o))])
    if group.size > 1:
        again = "the same torchrun command,"
    # the workers load their libraries while this process loads its own
    with start_workers(loaded.run.workers if group.size == 1 else 0, loaded.run.place / "prepared") as processes:
        from fedcmp.cli.progress import Display
        from fedcmp.simulation.train import train

        try:
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
            typer.echo(
                f"\ninterrupted; what is finished is kept in {loaded.run.place}. Go on: {again} --resume", err=True
            )
            raise
    from fedcmp.report.writing import write_report  # what it draws with takes half a second to load

    page = write_report(folder)
    print_summary(folder)
    typer.echo(f"report: {page}")


@app.command("export")
def export_command(
    run: RunFolderArgument,
    out: Annotated[Path, typer.Argument(help="A new folder for the LLaVA checkpoint.", show_default=False)],
    client: Annotated[int | None, typer.Option(help="Of a local-only run: whose projector.")] = None,
    projector_only: Annotated[
        bool, typer.Option("--projector-only", help="Write the projector alone; OUT is a file or a folder for it.")
    ] = False,
    naming: Annotated[
        Literal["huggingface", "llava"], typer.Option(help="Of --projector-only: safetensors, or mm_projector.bin.")
    ] = "huggingface",
) -> None:
    """Write a run's model as a Hugging Face LLaVA folder, or its projector alone.

    Example: fedcmp export runs/demo/shared-basis exported/
    """
    from fedcmp.finished.export import export_projector, export_run

    if projector_only:
        typer.echo(f"exported: {export_projector(run, out, naming=naming, client=client)}")
        return
    if naming != "huggingface":
        raise UserError(f"--naming {naming}: goes with --projector-only")
    typer.echo(f"exported: {export_run(run, out, client=client)}")


@app.command("track")
def track_command(
    run: RunFolderArgument,
    to: Annotated[
        list[str],
        typer.Option(help="tensorboard, wandb or trackio; may be given several times."),
    ] = ["tensorboard"],  # noqa: B006 - typer copies it
) -> None:
    """Write the curves of a run, finished or not, for TensorBoard, Weights & Biases or trackio.

    Example: fedcmp track runs/demo --to tensorboard
    """
    from fedcmp.tracking.following import track_run

    for folder in track_run(run, to):
        typer.echo(f"tracked: {folder}")


@app.command("methods")
def methods_command() -> None:
    """List the methods a recipe may name."""
    from fedcmp.config.methods import available_methods, describe_method

    for name in available_methods():
        typer.echo(f"{name:<26}{describe_method(name)[0]}")


@app.command("study")
def study_command(
    recipe: Annotated[Path, typer.Argument(help="A study's recipe (TOML).", show_default=False)],
    option: Override = None,
    only: Annotated[list[str] | None, typer.Option(help="Only this scenario; may be given several times.")] = None,
    minutes: Annotated[float | None, typer.Option(min=0, help="Start no further run after so many minutes.")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Say what is still to be run, and run nothing.")] = False,
    unpack: Annotated[
        Path | None,
        typer.Option(help="Start from a published study (.jsonl): its runs are not run again.", show_default=False),
    ] = None,
    pack: Annotated[
        Path | None,
        typer.Option(help="Publish the study in one file (.jsonl), its tables next to it (.md).", show_default=False),
    ] = None,
) -> None:
    """Tune and run methods x scenarios x seeds, then write tables and figures with error bars.

    Give the same command again to resume: what has ended is not run again.

    Example: fedcmp study recipes/study.toml --only image --minutes 60
    Published runs: fedcmp study recipes/study.toml --unpack results/study.jsonl
    """
    from fedcmp.report.study import write_study_report
    from fedcmp.study.packing import pack_study, unpack_study
    from fedcmp.study.recipe import load_study
    from fedcmp.study.runner import OutOfTime, Study

    study = Study(load_study(recipe, option), lambda line: typer.echo(line, err=True), only=only, minutes=minutes)
    if unpack is not None:
        unpack_study(unpack, study.files.folder)
    if plan:
        typer.echo(study.estimate())
        return
    try:
        study.run()
    except OutOfTime:
        typer.echo("fedcmp: time is up; give the same command again to go on", err=True)
    for path in write_study_report(study.files.folder):
        typer.echo(f"report: {path}")
    if pack is not None:
        typer.echo(f"packed: {pack}, {pack_study(study.files.folder, pack)}")


@world_app.command("export")
def world_export_command(
    folder: Annotated[Path, typer.Argument(help="A new folder.", show_default=False)],
    format: Annotated[
        Literal["llava", "webdataset", "parquet"], typer.Option(help="JSON and pictures, tar shards, or parquet.")
    ] = "llava",
    split: Annotated[Literal["train", "validation", "test"], typer.Option(help="They share no scene.")] = "train",
    count: Annotated[int, typer.Option(min=1, help="How many scenes.")] = 1000,
    picture: Annotated[Literal["png", "jpeg"], typer.Option(help="Format of the pictures.")] = "png",
) -> None:
    """Write scenes of the embedded world as real files, with captions and questions.

    Example: fedcmp world export scenes/ --format webdataset --count 5000
    """
    from fedcmp.world.export import export_world

    typer.echo(f"exported: {export_world(folder, split=split, count=count, format=format, picture=picture)}")


@world_app.command("benchmarks")
def world_benchmarks_command(
    folder: Annotated[Path, typer.Argument(help="A new folder.", show_default=False)],
    split: Annotated[Literal["validation", "test"], typer.Option(help="They share no scene.")] = "test",
    limit: Annotated[int | None, typer.Option(min=1, help="So many pictures of each only.", show_default=False)] = None,
) -> None:
    """Write the world's suites pope, mme and mmbench in the real benchmarks' formats, for lmms-eval.

    Example: fedcmp world benchmarks datasets/
    """
    from fedcmp.evaluation.lmms.world_tables import write_world_benchmarks

    for name, items in write_world_benchmarks(folder, split=split, limit=limit).items():
        typer.echo(f"{name}: {len(items)} rows")


def main() -> None:
    """The `fedcmp` command."""
    rank, size = launched()
    if size == 1:
        _main()
        return
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # a rank that ends makes the others' connections complain
    try:
        _main()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        code = 1
        if rank == 0:
            traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # a thread may still wait for a rank that is gone


def _main() -> None:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # read when transformers is first imported
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # what a hub that cannot be reached means, we say in one line
    logging.basicConfig(format="%(message)s", stream=sys.stderr, level=logging.WARNING)
    try:
        app()
    except UserError as error:
        _tell(str(error))
        sys.exit(2)
    except OSError as error:
        if error.filename is None:
            raise
        _tell(f"{error.filename}: {error.strerror}; check the path, its rights and the disk's space")
        sys.exit(2)
    except (WorkerDied, WorkerFailed) as error:
        _tell(str(error))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _tell(mistake: str) -> None:
    """One line, from rank 0: what another rank found wrong reaches it (fedcmp.distributed)."""
    if launched()[0] == 0:
        typer.echo(f"fedcmp: {mistake}", err=True)
