"""`fedcmp report`: write the report of a run or a study once, or again and again while the run works."""

import time
from pathlib import Path
from typing import Annotated

import typer

from fedcmp.cli.options import RunFolderArgument
from fedcmp.cli.output import begin, note, result
from fedcmp.errors import UserError

_EVERY = 5  # seconds between two looks at a run that works


def report_command(
    run: RunFolderArgument,
    out: Annotated[Path | None, typer.Option(help="Output folder. Default: RUN/report.", show_default=False)] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Write it again whenever the run has new figures, until the run ends.")
    ] = False,
) -> None:
    """Write the HTML report, figures and tables of a run or a study, finished or not.

    Example: fedcmp report runs/demo
    While it runs: fedcmp report runs/demo --watch
    """
    if watch:
        begin(f"{run}: writing the report whenever the run has new figures (Ctrl-C ends this)")
    else:
        begin(f"{run}: writing the report", run)
    if (run / "study.json").is_file():
        if watch:
            raise UserError(f"{run}: --watch follows a run, and this is a study; leave --watch out")
        from fedcmp.report.study import write_study_report

        for path in write_study_report(run, out):
            result(f"report: {path}")
        return
    from fedcmp.report.writing import write_report

    page = follow(run, out) if watch else write_report(run, out)
    print_summary(run)
    result(f"report: {page}")


def follow(run: Path, out: Path | None, *, every: float = _EVERY) -> Path:
    """Write the report whenever a run's records have changed, until all of its methods have finished.

    Args:
        run: a folder that is there or being prepared; its first records may still be to come.
        out: where to write; None: RUN/report.
        every: seconds between two looks.

    Returns:
        The path of index.html.

    Raises:
        UserError: no such folder, or a file in it that cannot be read.
    """
    from fedcmp.report.writing import write_report
    from fedcmp.runs.reading import load_runs
    from fedcmp.runs.record_files import run_folders

    preparing = run.with_name(f".{run.name}.preparing")  # takes the run's place when its pairs are prepared
    if not run.is_dir() and not preparing.is_dir():
        raise UserError(f"{run}: no such folder; start the run first, or name its folder")
    before: list[tuple[Path, int]] = []
    said = False
    while True:
        found = [(folder, (folder / "metrics.jsonl").stat().st_size) for folder in run_folders(run)]
        if not found and not said:
            note(f"{run}: waiting for the run's first records")
            said = True
        if found and found != before:
            runs = load_runs(run)
            done = all(one.finished for one in runs)
            page = write_report(run, out, refresh=0 if done else round(max(every, 1)))
            rounds = ", ".join(f"{one.method} {one.round_reached}" for one in runs)
            note(f"report: {page} (rounds: {rounds})")
            if done:
                return page
            before = found
        time.sleep(every)


def print_summary(folder: Path) -> None:
    """Print the table of methods of a run's folder, and which of them wins."""
    from fedcmp.cli.progress import print_table
    from fedcmp.report.comparison import Comparison
    from fedcmp.report.summary import comparison_table
    from fedcmp.report.verdict import verdict
    from fedcmp.runs.reading import load_runs

    comparison = Comparison.of(load_runs(folder))
    print_table(comparison_table(comparison))
    result("".join(phrase.text for phrase in verdict(comparison)))
    if comparison.toy:
        result(comparison.toy)
