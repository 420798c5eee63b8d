"""The verb `fedcmp evaluate`: a run's last projector judged again, or asked the real benchmarks."""

import json
from pathlib import Path
from typing import Annotated

import typer

from fedcmp.errors import UserError
from fedcmp.extras import require


def evaluate_command(
    run: Annotated[
        Path | None,
        typer.Argument(help="A run's folder; with --suite also an exported LLaVA folder.", show_default=False),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("-o", "--option", help="Replace a recipe value: section.key=value.", show_default=False),
    ] = None,
    suite: Annotated[
        str | None, typer.Option(help="llava7: the paper's seven benchmarks, by lmms-eval.", show_default=False)
    ] = None,
    datasets: Annotated[
        Path | None, typer.Option(help="Their data: one folder a benchmark.", show_default=False)
    ] = None,
    lmms_python: Annotated[
        Path | None, typer.Option(help="The python that has lmms-eval. Default: $FEDCMP_LMMS_PYTHON.")
    ] = None,
    only: Annotated[str | None, typer.Option(help="Some of them: pope,mme", show_default=False)] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="So many rows of each, to try out.")] = None,
    judge_url: Annotated[str | None, typer.Option(help="An OpenAI-compatible API for open answers.")] = None,
    judge_model: Annotated[str | None, typer.Option(help="The judge's name there.", show_default=False)] = None,
    judge_key: Annotated[str, typer.Option(help="Environment variable of its key.")] = "OPENAI_API_KEY",
    prompts: Annotated[
        str | None, typer.Option(help="lmms-eval or world. Default: world for the embedded world's LLM.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:0, ...")] = "auto",
    client: Annotated[int | None, typer.Option(help="Of a local-only run: whose projector.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the results. Default: RUN/benchmarks.")] = None,
    print_environment: Annotated[
        bool, typer.Option("--print-environment", help="Print the commands that build lmms-eval's environment.")
    ] = False,
) -> None:
    """Judge a run's last projector again, or ask it the real benchmarks: --suite llava7.

    Example: fedcmp evaluate runs/demo/shared-basis -o evaluation.questions_per_kind=500
    Example: fedcmp evaluate runs/llava --suite llava7 --datasets benchmarks/ --lmms-python lmms-env/bin/python
    """
    if print_environment:
        from fedcmp.evaluation.lmms.environment import environment_recipe

        typer.echo(environment_recipe(), nl=False)
        return
    if run is None:
        raise UserError("evaluate: name a run's folder, for example runs/demo/shared-basis")
    from fedcmp.runs.folder import check_folder

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
            raise UserError(
                f"{named[0]}: goes with --suite llava7; without it the recipe's own evaluation is done again"
            )
        _judge_again(run, option)
        return
    require("pyarrow", "parquet", f"--suite {suite}")
    # options are checked before transformers is loaded
    from fedcmp.evaluation.lmms.benchmarks import SUITE, chosen_benchmarks, prompts_named
    from fedcmp.evaluation.lmms.judge import judge_from

    if suite != SUITE:
        raise UserError(f"--suite {suite}: there is {SUITE}; without --suite the recipe's own evaluation is done again")
    if datasets is None:
        raise UserError("--datasets: name the folder that holds one folder a benchmark; nothing is downloaded")
    if option:
        raise UserError(f"-o {option[0]}: not with --suite, which asks the model as it was trained")
    chosen, judge = chosen_benchmarks(only), judge_from(judge_url, judge_model, judge_key)
    if prompts is not None:
        prompts_named(prompts)
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

    def say(line: str) -> None:
        typer.echo(line, err=True)

    def done(name: str, outcome: Outcome) -> None:
        typer.echo(f"{name}: {outcome.line()}")

    outcomes = benchmark_folder(run, settings, say, done=done, prompts=prompts, client=client, out=out)
    failed = [f"{name}, {o.line()}" for name, found in outcomes.items() for o in found if o.status == "failed"]
    _write_reports(run)
    if failed:
        raise UserError(f"{len(failed)} failed, the first: {failed[0]}")
    if all(outcome.status == "skipped" for found in outcomes.values() for outcome in found):
        raise UserError(f"--suite {suite}: nothing could be asked, for the reasons above")


def _judge_again(run: Path, option: list[str] | None) -> None:
    from fedcmp.cli.progress import Display
    from fedcmp.finished.evaluate import evaluate_run

    with Display(None) as display:
        result = evaluate_run(run, option, progress=display.preparing)
    typer.echo(json.dumps(result, indent=2))


def _write_reports(run: Path) -> None:
    from fedcmp.report.writing import write_report
    from fedcmp.runs.reading import METRICS

    if (run / METRICS).is_file() or any(run.glob(f"*/{METRICS}")):
        typer.echo(f"report: {write_report(run)}")
