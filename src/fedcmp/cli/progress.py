"""What a person sees while a run works: a line per method with rounds x clients, loss and time left; then the table."""

import time
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from fedcmp.cli.steps import Steps, apart, left_text
from fedcmp.config import Recipe
from fedcmp.federation.rounds import Events
from fedcmp.report.tables import Table
from fedcmp.runs.records import Evaluation
from fedcmp.simulation.train import method_folders
from fedcmp.terminal import shown

_ALL = "all methods"


class Display(Steps, Events):
    """Progress on stderr; use as a context manager. Bars in a terminal, a plain line now and then elsewhere.

    Args:
        recipe: the run, or None where only steps are shown.
    """

    def __init__(self, recipe: Recipe | None) -> None:
        super().__init__()
        self._recipe = recipe
        self._work: _Work | None = None
        self._several = recipe is not None and len(recipe.run.methods) > 1

    def planned(self, lines: list[str], misfits: list[str]) -> None:
        """Show what the run will need."""
        warn = self._recipe is not None and self._recipe.run.preflight == "warn"
        with self._lock:
            for line in [*lines, *(f"may not fit: {misfit}" for misfit in misfits if warn)]:
                self.say(line)

    def client_done(self, method: str, round_number: int, client: int, clients: int, loss: float) -> None:
        """Show the loss of a client that finished its part.

        Methods that run side by side share the workers and go faster once others have ended: only the time left of all
        of them together is shown.
        """
        assert self._recipe is not None
        rounds = self._recipe.federation.rounds
        done = (round_number - 1) * clients + min(max(client, 0) + 1, clients)
        who = f"client {client + 1}/{clients}" if client >= 0 else "pooled"
        self._trained(method, done, rounds * clients, f"round {round_number}/{rounds}  {who}  loss {loss:.3f}")

    def part_done(self, method: str, done: int, parts: int, client: int, loss: float) -> None:
        """Show the loss of an asynchronous client that finished a part."""
        self._trained(method, done, parts, f"part {done}/{parts}  client {client + 1}  loss {loss:.3f}")

    def _trained(self, method: str, done: int, total: int, note: str) -> None:
        assert self._recipe is not None
        with self._lock:
            if self._work is None:  # now an earlier run's folders are gone, or are those that are resumed
                folders = method_folders(self._recipe)
                self._work = _Work([name for name, kept in folders.items() if not kept.finished])
            if self._several:
                self._task(_ALL, 1)
            task = self._task(method, total)
            self._work.note(method, done, total, time.monotonic())
            left = left_text(self._work.seconds_left(time.monotonic()))
            self._progress.update(task, completed=done, total=total, note=note, left="" if self._several else left)
            if self._several:
                self._progress.update(self._tasks[_ALL], completed=self._work.share, left=left)
                left = f"{_ALL}: {left}" if left else ""
            self._say(method, f"{method}: {note}{apart(left)}", last=done == total)

    def round_done(self, method: str, round_number: int, rounds: int, evaluation: Evaluation | None) -> None:
        """Show the held-out loss after a round."""
        if evaluation is not None:
            with self._lock:
                note = f"round {round_number}/{rounds}  held-out loss {evaluation.caption_loss:.3f}"
                self._progress.update(self._tasks[method], note=note)


class _Work:
    """How much of all methods' training is done, and when it will be at an end; a method counts as much as another.

    The clock begins when each method was heard of: preparing, and rounds before a resume, do not count.

    Args:
        methods: those that have rounds to do.
    """

    def __init__(self, methods: Sequence[str]) -> None:
        self._shares = dict.fromkeys(methods, 0.0)  # what part of each is done
        self._silent = set(methods)
        self._begun = self._before = 0.0  # when the clock began, and the sum of shares then

    def note(self, method: str, done: int, total: int, now: float) -> None:
        """Take in how many of its units a method has done, at a time in seconds."""
        self._shares[method] = done / total
        if method in self._silent:
            self._silent.remove(method)
            self._begun, self._before = now, sum(self._shares.values())

    @property
    def share(self) -> float:
        """Return what part of all work is done, 0 to 1."""
        return sum(self._shares.values()) / max(len(self._shares), 1)

    def seconds_left(self, now: float) -> float | None:
        """Return seconds until all methods are through, None before there is anything to judge by."""
        done = sum(self._shares.values())
        if self._silent or now <= self._begun or done - self._before < 1e-9:
            return None
        return (now - self._begun) * (len(self._shares) - done) / (done - self._before)


def print_table(table: Table) -> None:
    """Print a table on stdout; wide enough not to be cut where stdout is no terminal."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    out = RichTable(title=Text(shown(table.caption)) if table.caption else None)
    for number, header in enumerate(table.headers):
        out.add_column(Text(shown(header)), justify="right" if number else "left", overflow="fold")
    for row in table.rows:  # Text, not str: a name may hold what rich reads as markup
        out.add_row(*(Text(shown(cell.plain), style="bold" if cell.bold else "") for cell in row.cells))
    console.print(out)
    for note in table.footnotes:
        console.print(Text(shown(note)))
