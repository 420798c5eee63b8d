"""How far runs are: from their records, and from live.json where a server or a site writes one (live.py).

Reads files only and needs no torch. A simulated run has no live.json: its records say which rounds are closed, and
waiting/ (federation/kept_replies.py) which clients' replies to the open one are there.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from fedcmp.errors import UserError
from fedcmp.runs.best import Best
from fedcmp.runs.live import LIVE, Live, SiteNow
from fedcmp.runs.reading import Run, load_runs
from fedcmp.runs.record_files import METRICS, run_folders
from fedcmp.runs.records import ClientRound

_PACE = 5  # rounds whose mean duration says how long the next ones will take
_REPLY = re.compile(r"client-(\d+)\.safetensors")


@dataclass(frozen=True)
class SiteStatus:
    """One site or client.

    Attributes:
        name: of the site.
        now: what it is doing; None where nothing tells, or the run has ended.
        rounds: closed rounds that its reply was in.
        missed: closed rounds that it was asked for and not in.
        num_bytes: in both directions, of the rounds that it was in.
        loss: mean training loss of its last reply, nats per caption token; None where it is not finite.
    """

    name: str
    now: SiteNow | None
    rounds: int = 0
    missed: int = 0
    num_bytes: int = 0
    loss: float | None = None


@dataclass(frozen=True)
class Status:
    """One method's run.

    Attributes:
        folder: its folder.
        method: its name.
        finished: whether it came to its end.
        closed: rounds that are closed.
        open: number of the round under way; None where there is none, or nothing tells.
        rounds: of the whole run; None where nothing tells.
        opened: when the open round was opened, seconds since 1970.
        deadline: when it closes at the latest.
        left: seconds until the run ends, at the pace of its last rounds; None before a round is closed.
        loss: held-out caption loss of the last evaluated round, nats per token.
        loss_round: that round.
        best: the round of the lowest held-out loss, and that.
        num_bytes: sent so far by all, both directions.
        news: when something was last written, seconds since 1970.
        sites: in the clients' order.
    """

    folder: Path
    method: str
    finished: bool
    closed: int
    open: int | None
    rounds: int | None
    opened: float | None
    deadline: float | None
    left: float | None
    loss: float | None
    loss_round: int | None
    best: Best | None
    num_bytes: int
    news: float
    sites: tuple[SiteStatus, ...]


def read_status(folder: Path, *, now: float) -> list[Status]:
    """Return how far the runs in a folder are.

    Args:
        folder: a run's, one that holds several methods' runs, a site's, or a server's: its newest run is meant.
        now: seconds since 1970.

    Raises:
        UserError: no such folder, or there is neither a run nor a live.json in it.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name a run's folder or a site's")
    own = Live.read(folder)
    if not run_folders(folder):
        if own is None and (newest := _newest_run(folder / "runs")) is not None:
            return read_status(newest, now=now)
        if own is None:
            raise UserError(f"{folder}: neither a run ({METRICS}) nor a site at work ({LIVE}) is in it")
        return [_of_site(folder, own)]
    return [
        _of_run(run, Live.read(run.folder) or (own if own and own.method == run.method else None), now)
        for run in load_runs(folder)
    ]


def _newest_run(runs: Path) -> Path | None:
    """The run of a server's folder that was begun last."""
    found = [path for path in runs.glob("*") if run_folders(path)]
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def _of_site(folder: Path, live: Live) -> Status:
    return Status(
        folder=folder,
        method=live.method,
        finished=False,
        closed=max((live.round or 0) - 1, 0),
        open=live.round or None,
        rounds=live.rounds,
        opened=live.opened,
        deadline=live.deadline,
        left=None,
        loss=None,
        loss_round=None,
        best=None,
        num_bytes=0,
        news=live.updated or 0.0,
        sites=tuple(SiteStatus(name, now) for name, now in live.sites.items()),
    )


def _of_run(run: Run, live: Live | None, now: float) -> Status:
    live = None if run.finished else live
    closed = max((line.round for line in run.server_rounds), default=0)
    waiting = _newest(run.folder / "waiting")
    under_way = live.round if live else closed + 1 if waiting is not None else None
    opened = live.opened if live else None
    measured = run.measures(run.split).get(run.round_measured)
    last = Best.after(None, run.round_measured, measured) if measured else None
    files = [run.folder / METRICS, *([waiting] if waiting else []), *([run.folder / LIVE] if live else [])]
    return Status(
        folder=run.folder,
        method=run.method,
        finished=run.finished,
        closed=closed,
        open=None if run.finished or not under_way or under_way <= closed else under_way,
        rounds=run.rounds,
        opened=opened,
        deadline=live.deadline if live else None,
        left=None if run.finished else _left(run, now),
        loss=last.loss if last else None,
        loss_round=last.round if last else None,
        best=run.best,
        num_bytes=run.num_bytes or 0,
        news=max((_changed(path) for path in files), default=0.0),
        sites=tuple(_sites(run, live.sites if live else _replied(run, waiting))),
    )


def _left(run: Run, now: float) -> float | None:
    """Seconds until the last round closes: the rounds to come at the mean pace of the last ones, from their opening."""
    opened = {line.round: at for line in run.server_rounds if (at := _seconds(line.opened)) is not None}
    if not opened or run.rounds is None:
        return None
    last = max(opened)
    first = max(min(opened), last - _PACE)
    waited = next((line.waited for line in reversed(run.server_rounds) if line.waited is not None), None)
    pace = (opened[last] - opened[first]) / (last - first) if last > first and first in opened else waited
    return None if pace is None else max(opened[last] + pace * (run.rounds - last + 1) - now, 0.0)


def _seconds(written: str) -> float | None:
    try:
        return datetime.fromisoformat(written).timestamp()
    except (ValueError, OverflowError, OSError):
        return None


def _newest(waiting: Path) -> Path | None:
    """The folder of the replies to the open round; None where there is none."""
    return max(waiting.glob("round-*"), default=None, key=lambda path: path.name)


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _replied(run: Run, waiting: Path | None) -> Mapping[str, SiteNow]:
    """Who has replied to the open round of a run without live.json, by the names in its records."""
    if waiting is None or run.finished:
        return {}
    names = {line.client: line.name for line in run.holdings}
    there = {int(found[1]): path for path in waiting.glob("*") if (found := _REPLY.fullmatch(path.name))}
    now = {name: SiteNow(state="waiting", since=None) for name in names.values()}
    return now | {
        names[client]: SiteNow(state="done", since=_changed(path) or None)
        for client, path in there.items()
        if client in names
    }


def _sites(run: Run, now: Mapping[str, SiteNow]) -> Iterator[SiteStatus]:
    missed = Counter(name for line in run.server_rounds for name in line.missing)
    replies: dict[str, list[ClientRound]] = {line.name: [] for line in run.holdings}
    for line in run.client_rounds:
        replies.setdefault(line.name, []).append(line)
    for name in dict.fromkeys([*replies, *missed, *now]):
        mine = replies.get(name, [])
        loss = mine[-1].loss if mine else None
        yield SiteStatus(
            name,
            now.get(name),
            rounds=len(mine),
            missed=missed[name],
            num_bytes=sum(line.num_bytes for line in mine),
            loss=loss if loss is not None and math.isfinite(loss) else None,
        )
