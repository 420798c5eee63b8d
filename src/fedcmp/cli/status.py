"""The verb `fedcmp status`: how far a run is, who is in it and who is late; once, or again and again while it works."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedcmp.errors import UserError
from fedcmp.terminal import shown

if TYPE_CHECKING:
    from rich.console import RenderableType

    from fedcmp.runs.status import SiteStatus, Status

_EVERY = 1.0  # seconds between two looks
_MOST_SITES = 40  # rows; those that want attention come first
_ATTENTION = ("late", "out")
_SILENT = 120  # seconds without news, after which it is said
_MB = 1e6


def status_command(
    folder: Annotated[
        Path | None,
        typer.Argument(help="Folder of a run or of a site. Default: the newest run in runs/.", show_default=False),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Keep the display up to date until the run ends.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON; with --watch one line per second.")] = False,
) -> None:
    """Show how far a run is: round, sites and who is late, bytes sent, last losses, time left.

    Example: fedcmp status runs/lab --watch
    """
    place = folder or _newest(Path("runs"))
    if as_json:
        from fedcmp.runs.fields import finite

        _follow(place, lambda found: typer.echo(json.dumps(finite([_plain(one) for one in found]))), watch=watch)
        return
    from rich.console import Console, Group
    from rich.live import Live

    console = Console()
    if watch and not console.is_terminal:
        raise UserError("--watch: needs a terminal; elsewhere add --json, which prints a line per second")
    if not console.is_terminal:
        console = Console(width=1000)  # a line of the run is one line of the file
    if not watch:
        _follow(place, lambda found: console.print(Group(*_parts(found))), watch=False)
        return
    with Live(console=console, auto_refresh=False) as live:
        _follow(place, lambda found: live.update(Group(*_parts(found)), refresh=True), watch=True)


def _follow(place: Path, show: "Callable[[list[Status]], None]", *, watch: bool) -> None:
    """Show how far the runs of a folder are; where it is watched, again and again until all have ended."""
    from fedcmp.runs.status import read_status

    while True:
        found = read_status(place, now=time.time())
        show(found)
        if not watch or all(status.finished for status in found):
            return
        time.sleep(_EVERY)


def _newest(runs: Path) -> Path:
    """Return the run in a folder whose records changed last."""
    found = [(path.stat().st_mtime, path) for pattern in ("*", "*/*") for path in runs.glob(f"{pattern}/metrics.jsonl")]
    if not found:
        raise UserError("status: no run in runs/ here; name the folder of a run or of a site")
    _, newest = max(found)
    return runs / newest.relative_to(runs).parts[0]


def _parts(found: "list[Status]") -> "list[RenderableType]":
    """Return a line per run and, of those that work, the table of its sites."""
    now = time.time()
    return [part for status in found for part in _parts_of(status, now)]


def _parts_of(status: "Status", now: float) -> "list[RenderableType]":
    from rich.table import Table
    from rich.text import Text

    line = Text(shown(_line(status, now)))
    if status.finished or not status.sites:
        return [line]
    table = Table("Site", "State", box=None, pad_edge=False)
    for title in ("since", "step", "rounds", "missed", "loss", "MB"):
        table.add_column(title, justify="right")
    table.add_column("")
    in_order = sorted(status.sites, key=lambda site: site.now is None or site.now.state not in _ATTENTION)
    for site in in_order[:_MOST_SITES]:
        attention = site.now is not None and site.now.state in _ATTENTION
        table.add_row(*(Text(shown(cell)) for cell in _cells(site, now)), style="bold yellow" if attention else "")
    more = [Text(f"and {len(in_order) - _MOST_SITES} more sites")] if len(in_order) > _MOST_SITES else []
    return [line, table, *more]


def _line(status: "Status", now: float) -> str:
    """Say in one line how far a run is."""
    of = "" if status.rounds is None else f" of {status.rounds}"
    if status.finished:
        told = [f"finished, {status.closed} rounds"]
    elif status.open is None:
        told = [f"round {status.closed}{of} is closed"]
    else:
        told = [f"round {status.open}{of}"]
        told += [f"open for {_ago(now - status.opened)}"] if status.opened is not None else []
        told += [f"closes in {_ago(status.deadline - now)}"] if status.deadline is not None else []
    if status.loss is not None:
        told.append(f"held-out loss {status.loss:.3f} (round {status.loss_round})")
        best = status.best
        told += [f"best {best.loss:.3f} (round {best.round})"] if best and best.round != status.loss_round else []
    told += [f"{status.num_bytes / _MB:,.1f} MB sent"] if status.num_bytes else []
    silent = now - status.news
    if not status.finished:
        told += [f"no news for {_ago(silent)}"] if silent >= _SILENT else []
        told += [f"about {_ago(status.left)} left"] if status.left is not None and silent < _SILENT else []
    return f"{status.folder}: {status.method}: {', '.join(told)}"


def _cells(site: "SiteStatus", now: float) -> list[str]:
    here = site.now
    step = "" if here is None or here.step is None else f"{here.step}/{here.steps or '?'}"
    return [
        site.name,
        here.state if here else "",
        _ago(now - here.since) if here and here.since is not None else "",
        step,
        str(site.rounds),
        str(site.missed) if site.missed else "",
        "" if site.loss is None else f"{site.loss:.3f}",
        f"{site.num_bytes / _MB:,.1f}" if site.num_bytes else "",
        here.detail if here else "",
    ]


def _ago(seconds: float) -> str:
    """Write a duration in a unit that fits: "40 s", "12 min", "3.5 h"."""
    if seconds >= 7200:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{max(seconds, 0):.0f} s"


def _plain(status: "Status") -> dict[str, Any]:
    """Return a status for JSON: times in seconds, those of a clock since 1970."""
    plain = {key: value for key, value in vars(status).items() if key not in ("sites", "best", "folder")}
    best = None if status.best is None else {"round": status.best.round, "loss": status.best.loss}
    sites = [
        {key: value for key, value in vars(site).items() if key != "now"} | (site.now.line() if site.now else {})
        for site in status.sites
    ]
    return {"folder": str(status.folder), **plain, "best": best, "sites": sites}
