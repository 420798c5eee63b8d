"""What commands print: results on stdout, everything else on stderr, each line made safe for a terminal."""

from pathlib import Path

import typer

from fedcmp.terminal import shown


def result(line: str) -> None:
    """Print a line of the command's result."""
    typer.echo(shown(line))


def note(line: str) -> None:
    """Print a line about the command's work: what it begins, what is to be known."""
    typer.echo(shown(line), err=True)


def begin(what: str, run: Path | None = None) -> None:
    """Say what a command begins, before seconds of loading libraries.

    Args:
        what: the line, for example "runs/demo: reading the run".
        run: a run's folder, which must be there.

    Raises:
        UserError: no such folder.
    """
    if run is not None:
        from fedcmp.runs.place import check_folder

        check_folder(run)
    note(f"{what} ...")
