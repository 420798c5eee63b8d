"""One schedule: processes that are started, killed and started again while the network plays its part, until the end.

Whoever is killed is started again after a moment, as `fedcmp serve` and `fedcmp join` do it. A server that stops in one
clear line finds its operator at hand: disks are freed, links healed, torn files treated as the line says; then it is
started again. A run that fails otherwise, that stops again and again, or that does not end has not survived.
"""

import random
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from fedcmp.wire.site_messages import Header
from tools.faults.damage import Torn, tear
from tools.faults.disk import Disk
from tools.faults.moments import note, noted
from tools.faults.network import Fate, Network
from tools.faults.outcome import Absent, absences, outcome
from tools.faults.places import SITES, Places
from tools.faults.plan import (
    CLOCK,
    CUT,
    DISK,
    MESSAGE,
    OF_SERVER,
    OF_SITE,
    SERVER_KILLED,
    SILENT,
    SITE_KILLED,
    TORN,
    Fault,
    Plan,
)
from tools.faults.roles import CLEAR_STOP, Clock, Part, Strike, serve, train

SERVER = ""  # among actors
_MOST_STOPS = 4
_POLL = 0.02
_LOADED_LATE = (
    "transformers.models.clip.modeling_clip",
    "transformers.models.clip.image_processing_pil_clip",
    "transformers.models.llama.modeling_llama",
    "transformers.models.auto.processing_auto",
    "transformers.generation.utils",
)


@dataclass(frozen=True)
class Ended:
    """How a schedule ended.

    Attributes:
        finished: the run came to its end.
        fault: what must not be: a traceback, a hang, a stop for no reason; "" if nothing.
        stops: lines in which the server stopped before it was started again.
        injected: faults that came to pass.
        kills: processes that were killed.
        absent: who had no part in which round.
        left: outcome.outcome.
        seconds: it took.
    """

    finished: bool
    fault: str
    stops: list[str]
    injected: list[Fault]
    kills: int
    absent: Absent = frozenset()
    left: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0


class Runner:
    """Runs schedules, one at a time; use as a context manager.

    Args:
        pairs: each site's [data] keys.
        folder: with a short path; schedules get folders of their own in it.
    """

    def __init__(self, pairs: Mapping[str, Mapping[str, Any]], folder: Path) -> None:
        self._pairs, self._folder = pairs, folder
        self._context = get_context("forkserver")
        self._context.set_forkserver_preload(["tools.faults.roles", *_LOADED_LATE])  # once, not per process

    def run(self, plan: Plan, *, span: float, absent: Absent = frozenset(), keep: bool = False) -> Ended:
        """Run a schedule to its end.

        Args:
            plan: the schedule.
            span: seconds that a run takes without faults; faults at random moments fall into it.
            absent: sites that a round is closed without, by refusal: for the run that others are compared with.
            keep: leave the folder behind.
        """
        folder = Path(tempfile.mkdtemp(dir=self._folder, prefix="s"))
        schedule = _Schedule(plan, Places(folder), self._start, span, absent)
        try:
            return schedule.run(self._pairs)
        finally:
            schedule.end()
            if not keep:
                shutil.rmtree(folder, ignore_errors=True)

    def _start(self, target: Callable[..., None], *arguments: Any) -> ForkServerProcess:
        process = self._context.Process(target=target, args=arguments, daemon=True)
        process.start()
        return process


class _Schedule:
    def __init__(
        self, plan: Plan, places: Places, start: Callable[..., ForkServerProcess], span: float, absent: Absent
    ) -> None:
        self._plan, self._places, self._start, self._absent, self._span = plan, places, start, absent, span
        self._draw = random.Random(plan.name)
        self._pending = dict(enumerate(plan.faults))
        self._injected: list[Fault] = []
        self._seen: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()
        self._processes: dict[str, ForkServerProcess] = {}
        self._due = dict.fromkeys([*SITES, SERVER], 0.0)  # when each is started, if it does not run
        self._timed = [(fault.share * span, number) for number, fault in self._pending.items() if _is_timed(fault)]
        self._over: list[tuple[float, Callable[[], None]]] = []  # when, and what then undoes a fault
        self._silent: dict[str, float] = {}
        self._disks: dict[str, Disk] = {}
        self._torn: list[Torn] = []
        self._stops: list[str] = []
        self._kills = self._sites_stops = 0
        self._begun = 0.0
        self._patience = 60.0 + 10 * span

    def run(self, pairs: Mapping[str, Mapping[str, Any]]) -> Ended:
        self._places.make(pairs)
        for fault in self._plan.faults:
            if fault.kind == DISK:
                folder = self._places.state(fault.site) if fault.site else self._places.server.parent
                self._disks[fault.site] = Disk(folder)
        with Network(self._places, self._fate) as self._network:
            self._begun = time.monotonic()
            wrong = self._watch()
        seconds = time.monotonic() - self._begun
        self._kill_all()
        finished = not wrong and len(self._stops) < _MOST_STOPS
        wrong = wrong or self._traceback()
        ended = Ended(finished, wrong, self._stops, self._injected, self._kills, seconds=seconds)
        if not finished:
            return ended
        absent = absences(self._places)
        left = outcome(self._places, self._plan.setting, absent, judged_by_all=self._plan.judged_by_all)
        return replace(ended, absent=absent, left=left)

    def end(self) -> None:
        """Leave no process and no file system behind."""
        self._kill_all()
        for disk in self._disks.values():
            disk.remove()

    def _watch(self) -> str:
        """Until the run ends; return what must not be."""
        while True:
            now = time.monotonic() - self._begun
            if now > self._patience:
                return f"did not end in {self._patience:.0f} s: {self._last_line('server')}"
            for actor, due in list(self._due.items()):
                process = self._processes.get(actor)
                if process is None and now >= due:
                    self._processes[actor] = self._started(actor)
                elif process is not None and process.exitcode is not None:
                    del self._processes[actor]
                    if actor == SERVER and process.exitcode == 0:
                        return ""
                    wrong = self._has_ended(actor, process.exitcode)
                    if wrong or len(self._stops) >= _MOST_STOPS:
                        return wrong
                    self._due[actor] = time.monotonic() - self._begun + self._draw.uniform(0.0, 1.0)
            self._strike(now)
            time.sleep(_POLL)

    def _started(self, actor: str) -> ForkServerProcess:
        clock = next((f for f in self._plan.faults if f.kind == CLOCK and f.site == actor), None)
        strikes = [
            Strike(number, moment, fault.count)
            for number, fault in self._pending.items()
            if fault.site == actor and (moment := _moment(fault))
        ]
        now = time.monotonic() - self._begun
        shift = None if clock is None else Clock(clock.off, max(0.0, clock.share * self._span - now))
        part = Part(self._places.folder, strikes, shift)
        if actor == SERVER:
            return self._start(serve, part, self._plan.setting, self._span)
        return self._start(train, part, actor)

    def _has_ended(self, actor: str, code: int) -> str:
        """See why a process ended, and do what is done meanwhile; return what must not be."""
        if code == -9:
            self._kills += 1
            for number in noted(self._places.fired):
                fault = self._happens(number)
                if fault is not None and fault.kind == TORN:
                    torn = tear(self._places, fault.site, fault.what, self._draw)
                    self._torn += [torn] if torn else []
            return ""
        line = self._last_line(actor or "server")
        if code != CLEAR_STOP:
            return f"{actor or 'server'} ended with code {code}: {line}"
        if actor == SERVER:
            self._stops.append(line)
        else:
            self._sites_stops += 1
            if self._sites_stops > _MOST_STOPS:
                return f"{actor} stops again and again: {line}"
        self._repair(line)
        return ""

    def _repair(self, said: str) -> None:
        """What an operator does once a line says why nothing goes on."""
        for disk in self._disks.values():
            disk.free()
        for site in SITES:
            self._network.heal(site)
        for torn in self._torn:
            torn.repair(said)
        self._torn = []
        self._over, self._silent = [], {}

    def _strike(self, now: float) -> None:
        """Let happen what is due, and end what is over."""
        for at, undo in [each for each in self._over if each[0] <= now]:
            self._over.remove((at, undo))
            undo()
        for at, number in [each for each in self._timed if each[0] <= now]:
            self._timed.remove((at, number))
            fault = self._pending[number]
            site, until = fault.site, now + fault.lasts * self._span
            match fault.kind:
                case "server killed" | "site killed":
                    process = self._processes.get(site)
                    if process is not None:
                        note(self._places.fired, number)
                        process.kill()
                case "link cut":
                    self._network.cut(site)
                    self._over.append((until, lambda site=site: self._network.heal(site)))  # type: ignore[misc]
                    self._happens(number)
                case "site silent":
                    self._silent[site] = until
                    self._happens(number)
                case "disk full":
                    self._disks[site].fill()
                    self._over.append((until, self._disks[site].free))
                    self._happens(number)
                case _:
                    self._happens(number)

    def _fate(self, site: str, header: Header) -> Fate:
        kind = str(header.get("message"))
        if kind == "training":
            work: Mapping[str, Any] = header["assignment"]
            if (work["round"], work["measure_only"], site) in self._absent:
                return Fate("refused")
        with self._lock:
            silent = self._silent.get(site, 0.0) - (time.monotonic() - self._begun)
            if silent > 0:
                return Fate("lost", silent)
            self._seen[site, kind] += 1
            for number, fault in self._pending.items():
                asked = fault.kind, fault.site, fault.message, fault.count
                if asked == (MESSAGE, site, kind, self._seen[site, kind]):
                    self._injected.append(self._pending.pop(number))
                    return Fate(fault.what, fault.lasts * self._span)
        return Fate()

    def _happens(self, number: int) -> Fault | None:
        with self._lock:
            fault = self._pending.pop(number, None)
            self._injected += [fault] if fault else []
        return fault

    def _kill_all(self) -> None:
        for process in self._processes.values():
            process.kill()
            process.join()
        self._processes = {}

    def _traceback(self) -> str:
        for path in sorted(self._places.folder.glob("*.log")):
            if "Traceback" in path.read_text(errors="replace"):
                return f"{path.stem} wrote a traceback: {self._last_line(path.stem)}"
        return ""

    def _last_line(self, actor: str) -> str:
        path = self._places.folder / f"{actor}.log"
        lines = path.read_text(errors="replace").splitlines() if path.exists() else []
        return lines[-1].strip() if lines else "it said nothing"


def _is_timed(fault: Fault) -> bool:
    return fault.kind in (CUT, SILENT, DISK, CLOCK) or (fault.kind in (SERVER_KILLED, SITE_KILLED) and not fault.what)


def _moment(fault: Fault) -> str:
    """Return the moment at which a process is to kill itself; "" for a fault that needs no such thing."""
    if fault.kind in (SERVER_KILLED, SITE_KILLED):
        return fault.what
    if fault.kind == TORN:
        return (OF_SITE if fault.site else OF_SERVER)[fault.what]
    return ""


def reference(runner: Runner, plan: Plan, absent: Absent, *, span: float) -> Ended:
    """Run the same without faults, each round without the sites that it was closed without."""
    setting = replace(plan.setting, deadline=None, min_clients=1)
    return runner.run(Plan(f"{plan.name} without faults", setting, ()), span=span, absent=absent)
