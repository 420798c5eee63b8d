"""The command line: one verb per action of the user. A verb parses, calls one function, prints.

Results go to stdout, progress to stderr; every verb says what it begins before it loads libraries. ending.py has the
exit codes.
"""

from pathlib import Path
from typing import Annotated, Literal

import typer

from fedcmp.cli.config import config_command
from fedcmp.cli.demo import demo_command
from fedcmp.cli.ending import run_to_the_end
from fedcmp.cli.evaluate import evaluate_command
from fedcmp.cli.init import init_command
from fedcmp.cli.join import join_command
from fedcmp.cli.keys import keys_app
from fedcmp.cli.options import Client, Round, RunFolderArgument
from fedcmp.cli.output import begin, note, result
from fedcmp.cli.recipes import recipes_command
from fedcmp.cli.report import report_command
from fedcmp.cli.scenario import scenario_app
from fedcmp.cli.serve import serve_command
from fedcmp.cli.status import status_command
from fedcmp.cli.study import study_command
from fedcmp.cli.sweep import sweep_command
from fedcmp.cli.train import train_command
from fedcmp.cli.world import world_app
from fedcmp.distributed import launched
from fedcmp.errors import UserError
from fedcmp.version import __version__

app = typer.Typer(
    name="fedcmp",
    help="Federated pretraining of multimodal LLMs: each client trains a projector on its own image-caption pairs, "
    "a server merges the projectors.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    suggest_commands=False,  # click suggests them already
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(world_app)
app.add_typer(scenario_app)
app.add_typer(keys_app)
app.command("demo")(demo_command)
app.command("init")(init_command)
app.command("recipes")(recipes_command)
app.command("config")(config_command)
app.command("train")(train_command)
app.command("sweep")(sweep_command)
app.command("evaluate")(evaluate_command)
app.command("study")(study_command)
app.command("report")(report_command)
app.command("serve")(serve_command)
app.command("join")(join_command)
app.command("status")(status_command)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"fedcmp {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version, then stop.")
    ] = False,
) -> None:
    """Handle what every verb shares."""
    del version
    if launched()[1] > 1 and context.invoked_subcommand != "train":
        raise UserError(f"{context.invoked_subcommand}: only `train` runs in several processes: leave torchrun out")


@app.command("export")
def export_command(
    run: RunFolderArgument,
    out: Annotated[Path, typer.Argument(help="New folder for the LLaVA checkpoint.", show_default=False)],
    client: Client = None,
    at: Round = "last",
    projector_only: Annotated[
        bool, typer.Option("--projector-only", help="Write the projector alone; OUT is a file, or a folder for it.")
    ] = False,
    naming: Annotated[
        Literal["huggingface", "llava"],
        typer.Option(help="With --projector-only: a .safetensors file, or LLaVA's mm_projector.bin."),
    ] = "huggingface",
) -> None:
    """Write a run's model as a Hugging Face LLaVA checkpoint with a model card, or its projector alone.

    Example: fedcmp export runs/demo/shared-basis exported/
    """
    if naming != "huggingface" and not projector_only:
        raise UserError(f"--naming {naming}: goes with --projector-only")
    from fedcmp.runs.place import check_one_run

    check_one_run(run)
    begin(f"{run}: exporting to {out}")
    from fedcmp.finished.export import export_projector, export_run

    if projector_only:
        result(f"exported: {export_projector(run, out, naming=naming, client=client, at=at, say=note)}")
        return
    result(f"exported: {export_run(run, out, client=client, at=at, say=note)}")


@app.command("track")
def track_command(
    run: RunFolderArgument,
    to: Annotated[
        list[str],
        typer.Option(help="Tracker to write for: tensorboard, wandb or trackio. Can be repeated."),
    ] = ["tensorboard"],  # noqa: B006 - typer copies it
) -> None:
    """Write a run's curves, finished or not, for TensorBoard, Weights & Biases or trackio.

    Example: fedcmp track runs/demo --to tensorboard
    """
    begin(f"{run}: writing curves for {', '.join(to)}", run)
    from fedcmp.tracking.following import track_run

    for folder in track_run(run, to):
        result(f"tracked: {folder}")


@app.command("methods")
def methods_command() -> None:
    """List the methods that a recipe may name, with a line about each."""
    from fedcmp.config.methods import available_methods, describe_method

    for name in available_methods():
        result(f"{name:<26}{describe_method(name)[0]}")


def main() -> None:
    """Run the `fedcmp` command."""
    run_to_the_end(app)
