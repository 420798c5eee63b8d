"""How a command ends: its exit code, and one line on stderr where something went wrong.

    0  all went well      1  a worker failed, or the machine ran out of memory or disk space
    2  the user's mistake      130  Ctrl-C      143  SIGTERM
What is none of these is our own mistake, and keeps its traceback.
"""

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable

import click
import typer

from fedcmp.cli.output import note
from fedcmp.distributed import launched
from fedcmp.errors import UserError, WorkerDied, WorkerFailed, shortage
from fedcmp.extras import quiet_libraries
from fedcmp.terminal import log_to_stderr, shown, shown_lines

_INTERRUPTED = 130


class Terminated(KeyboardInterrupt):
    """SIGTERM: the command ends as after Ctrl-C, its workers with it."""

    heard = False  # what is raised becomes an exit code on its way through the command


def _terminate(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Terminated.heard = True
    raise Terminated


def run_to_the_end(command: Callable[..., object]) -> None:
    """Run the command and end the process with its exit code; as one of several ranks too.

    Args:
        command: the typer application.
    """
    rank, size = launched()
    if size == 1:
        _run(command)
        return
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # a rank that ends makes the others' connections complain
    try:
        _run(command)
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


def _run(command: Callable[..., object]) -> None:
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminate)
    quiet_libraries()
    log_to_stderr()
    try:
        code = command(standalone_mode=False)
    except click.ClickException as error:
        _say_usage(error)
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(1)
    except UserError as error:
        _say(str(error))
        sys.exit(2)
    except (WorkerDied, WorkerFailed) as error:
        _say(str(error))
        sys.exit(1)
    except KeyboardInterrupt:
        code = _INTERRUPTED
    except Exception as error:
        if (short := shortage(error)) is not None:
            _say(short)
            sys.exit(1)
        if isinstance(error, OSError) and error.filename is not None:
            _say(f"{error.filename}: {error.strerror}; check the path, its rights and the disk's space")
            sys.exit(2)
        raise
    sys.exit(143 if code == _INTERRUPTED and Terminated.heard else code if isinstance(code, int) else 0)


def _say_usage(error: click.ClickException) -> None:
    """Print how the command is used; what was mistyped may hold anything."""
    from typer import rich_utils

    message = shown(error.format_message())
    error.format_message = lambda: message  # type: ignore[method-assign]  # what typer prints
    rich_utils.rich_format_error(error)


def _say(mistake: str) -> None:
    """Print a line, from rank 0: what another rank found wrong reaches it (fedcmp.distributed)."""
    if launched()[0] == 0:
        first, *rest = shown_lines(mistake).split("\n")
        note(f"fedcmp: {first}")
        for line in rest:  # a worker's traceback
            typer.echo(line, err=True)
