"""The verb `fedcmp evaluate`: a run's projector evaluated again, or asked the real benchmarks."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedcmp.cli.options import Client, Device, Override, Round, check_numbers
from fedcmp.cli.output import begin, note, result
from fedcmp.errors import UserError
from fedcmp.extras import require

if TYPE_CHECKING:
    from fedcmp.report.tables import Table


_CHOSEN = (
    "The round was chosen by its loss on the run's held-out pairs: on these that loss is biased, lower than on others."
)


def evaluate_command(
    run: Annotated[
        Path | None,
        typer.Argument(help="Folder of a run; with --suite also an exported LLaVA folder.", show_default=False),
    ] = None,
    option: Override = None,
    at: Round = "last",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    suite: Annotated[
        str | None,
        typer.Option(help="Real benchmarks to run: llava7.", show_default=False),
    ] = None,
    datasets: Annotated[Path | None, typer.Option(help="Data, one folder per benchmark.", show_default=False)] = None,
    lmms_python: Annotated[
        Path | None,
        typer.Option(help="Python with lmms-eval; $FEDCMP_LMMS_PYTHON.", show_default=False),
    ] = None,
    only: Annotated[
        str | None, typer.Option(help="Comma-separated subset, such as pope,mme.", show_default=False)
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Use only the first N rows of each.", show_default=False),
    ] = None,
    judge_url: Annotated[
        str | None, typer.Option(help="OpenAI-compatible API that judges answers.", show_default=False)
    ] = None,
    judge_model: Annotated[str | None, typer.Option(help="Model name of the judge.", show_default=False)] = None,
    judge_key: Annotated[str, typer.Option(help="Environment variable with the API key.")] = "OPENAI_API_KEY",
    prompts: Annotated[
        str | None,
        typer.Option(help="Prompts: lmms-eval's or the world's.", show_default=False),
    ] = None,
    device: Device = "auto",
    client: Client = None,
    out: Annotated[
        Path | None, typer.Option(help="Output folder. Default: RUN/benchmarks.", show_default=False)
    ] = None,
    print_environment: Annotated[
        bool, typer.Option("--print-environment", help="Print how to install lmms-eval, then stop.")
    ] = False,
) -> None:
    """Evaluate a run's projector again on held-out pairs, or on real benchmarks with --suite llava7.

    Example: fedcmp evaluate runs/demo/shared-basis -o evaluation.questions_per_kind=500
    Example: fedcmp evaluate runs/llava --suite llava7 --datasets benchmarks/ --lmms-python lmms-env/bin/python
    """
    if print_environment:
        from fedcmp.evaluation.lmms.environment import environment_recipe

        typer.echo(environment_recipe(), nl=False)
        return
    if run is None:
        raise UserError("evaluate: name a run's folder, for example runs/demo/shared-basis")
    check_numbers(limit=limit, client=client)
    from fedcmp.runs.place import check_folder

    check_folder(run)
    if suite is None:
        given = {
            "--datasets": datasets,
            "--lmms-python": lmms_python,
            "--only": only,
            "--limit": limit,
            "--judge-url": judge_url,
            "--judge-model": judge_model,
            "--prompts": prompts,
            "--client": client,
            "--out": out,
        }
        if named := [name for name, value in given.items() if value is not None]:
            raise UserError(f"{named[0]}: goes with --suite llava7; without it the recipe's own evaluation is repeated")
        _evaluate_again(run, option, at, as_json=as_json)
        return
    if at != "last":
        raise UserError(f"--round {at}: not with --suite; export that round, then name the exported folder")
    if as_json:
        raise UserError("--json: not with --suite, whose results are JSON files in the output folder")
    require("pyarrow", "parquet", f"--suite {suite}")
    # options are checked before transformers is loaded
    from fedcmp.evaluation.lmms.benchmarks import SUITE, chosen_benchmarks, prompts_named
    from fedcmp.evaluation.lmms.judge import judge_from

    if suite != SUITE:
        raise UserError(f"--suite {suite}: there is {SUITE}; without --suite the recipe's own evaluation is repeated")
    if datasets is None:
        raise UserError("--datasets: name the folder that holds one folder a benchmark; nothing is downloaded")
    if option:
        raise UserError(f"-o {option[0]}: not with --suite, which asks the model as it was trained")
    chosen, judge = chosen_benchmarks(only), judge_from(judge_url, judge_model, judge_key)
    if prompts is not None:
        prompts_named(prompts)
    begin(f"{run}: asking {', '.join(each.name for each in chosen)}")
    from fedcmp.evaluation.lmms.environment import probe
    from fedcmp.evaluation.lmms.suite import Outcome, Settings
    from fedcmp.finished.benchmarks import benchmark_folder
    from fedcmp.preparation.sources import user_cache_folder

    settings = Settings(
        benchmarks=chosen,
        judge=judge,
        environment=probe(lmms_python),
        datasets=datasets,
        cache=user_cache_folder(),
        insisted=only is not None,
        limit=limit,
        device=device,
    )

    def done(name: str, outcome: Outcome) -> None:
        result(f"{name}: {outcome.line()}")

    outcomes = benchmark_folder(run, settings, note, done=done, prompts=prompts, client=client, out=out)
    failed = [f"{name}, {o.line()}" for name, found in outcomes.items() for o in found if o.status == "failed"]
    _write_reports(run)
    if failed:
        raise UserError(f"{len(failed)} failed, the first: {failed[0]}")
    if all(outcome.status == "skipped" for found in outcomes.values() for outcome in found):
        raise UserError(f"--suite {suite}: nothing could be asked, for the reasons above")


def _evaluate_again(run: Path, option: list[str] | None, at: str, *, as_json: bool) -> None:
    from fedcmp.runs.place import check_one_run

    check_one_run(run)
    begin(f"{run}: loading the model and the held-out pairs")
    from fedcmp.cli.progress import Display, print_table
    from fedcmp.finished.evaluate import evaluate_run

    with Display(None) as display:
        figures = evaluate_run(run, option, at=at, progress=display.preparing)
    if as_json:
        typer.echo(json.dumps(figures, indent=2))
    else:
        print_table(_table(run, figures, chosen=at == "best"))


def _table(run: Path, figures: dict[str, Any], *, chosen: bool) -> "Table":
    """Return a row per model: its losses and its answers."""
    from fedcmp.report.methods import say_group
    from fedcmp.report.tables import Cell, Column, Row, Table

    def row(who: str, own: dict[str, Any]) -> Row:
        accuracy = own["question_accuracy"]
        cells = (
            {"global": "this run", "blind": "blind (same LLM, no image)"}.get(who, who),
            f"{own['caption_loss']:.3f}",
            "–" if own.get("shuffled_loss") is None else f"{own['shuffled_loss']:.3f}",
            f"{own['worst_group_loss']:.3f} {say_group(own['worst_group'])}",
            "–" if accuracy is None else f"{100 * accuracy:.1f}",
        )
        return Row(tuple(map(Cell, cells)))

    measured = {who: own for who, own in figures.items() if isinstance(own, dict)}
    asked = sum(figures["blind"]["questions_by_kind"].values())
    columns = (
        Column("Model", numeric=False),
        Column("Caption loss", "nats/token"),
        Column("Shuffled images", "nats/token"),
        Column("Worst-group loss", "nats/token"),
        Column("Question accuracy", "%"),
    )
    size = f"{figures['blind']['captions']:,} held-out captions, {asked:,} questions"
    return Table(
        columns,
        tuple(row(who, own) for who, own in measured.items()),
        caption=f"{run}, after round {figures['round']}",
        notes=(f"{size}. Lower losses and higher accuracies are better.", *([_CHOSEN] if chosen else [])),
    )


def _write_reports(run: Path) -> None:
    from fedcmp.report.writing import write_report
    from fedcmp.runs.record_files import METRICS

    if (run / METRICS).is_file() or any(run.glob(f"*/{METRICS}")):
        result(f"report: {write_report(run)}")
