"""Runs that are killed at random moments, resumed, killed again, and compared with one that nobody disturbed."""

import random
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tools.kills.runs import finish, outcome, place, start, write_recipe

METHODS = ["shared-basis", "moon", "scaffold", "local"]
_MOST_PER_RUN = 4
_PAIRS = 300
_PATIENCE = 60.0  # seconds for processes to be gone


@dataclass(frozen=True)
class Kill:
    """One kill.

    Attributes:
        number: the signal.
        phase: what the run was doing, as its files show it.
        replies: replies of open rounds that were on disk.
        outlived: seconds for which another process of the run outlived the command.
        traceback: whether the run wrote one.
    """

    number: signal.Signals
    phase: str
    replies: int
    outlived: float
    traceback: bool


@dataclass(frozen=True)
class Killed:
    """One run that was killed and resumed to its end.

    Attributes:
        kills: in their order.
        different: what was not equal to the undisturbed run, to the bit.
    """

    kills: list[Kill]
    different: list[str]


def kill_runs(work: Path, *, seed: int, kills: int, workers: int, say: Callable[[str], None]) -> list[Killed]:
    """Kill runs at random moments until there were so many kills, and resume each to its end.

    Args:
        work: an empty folder.
        seed: of moments and signals.
        kills: how many, at least; the last run may add some.
        workers: of every run.
        say: receives a line per run.
    """
    draw, cache = random.Random(seed), work / "cache"
    write_recipe(work / "undisturbed", methods=METHODS, workers=workers, pairs=_PAIRS)
    finish(work / "undisturbed", cache)  # fills the cache
    write_recipe(work / "timed", methods=METHODS, workers=workers, pairs=_PAIRS)
    seconds = finish(work / "timed", cache)
    expected = outcome(place(work / "undisturbed"))
    say(f"undisturbed: {seconds:.1f} s; {outcome(place(work / 'timed')) == expected and 'twice the same'}")
    found: list[Killed] = []
    while sum(len(run.kills) for run in found) < kills:
        folder = work / f"run-{len(found)}"
        write_recipe(folder, methods=METHODS, workers=workers, pairs=_PAIRS)
        done: list[Kill] = []
        for _ in range(_MOST_PER_RUN):
            kill = kill_once(folder, cache, draw.choice([signal.SIGKILL, signal.SIGTERM]), draw.uniform(0, seconds))
            if kill is None:
                break
            done.append(kill)
        finish(folder, cache)
        left = outcome(place(folder))
        different = sorted(key for key in expected.keys() | left.keys() if expected.get(key) != left.get(key))
        found.append(Killed(done, different))
        said = ", ".join(f"{kill.number.name} {kill.phase} ({kill.replies} replies)" for kill in done)
        say(f"run {len(found)}: {said or 'ended first'}; {'DIFFERENT: ' + different[0] if different else 'the same'}")
    return found


def kill_once(folder: Path, cache: Path, number: signal.Signals, seconds: float) -> Kill | None:
    """Start or resume a run and send it a signal after so many seconds; None where it had ended by then."""
    process = start(folder, cache)
    try:
        process.wait(timeout=seconds)
        return None
    except subprocess.TimeoutExpired:
        pass
    family = [process.pid, *descendants(process.pid)]
    process.send_signal(number)
    process.wait()
    begun = time.monotonic()
    while any(map(_is_alive, family)) and time.monotonic() - begun < _PATIENCE:
        time.sleep(0.01)
    outlived = time.monotonic() - begun
    _, said = process.communicate()
    run = place(folder)
    phase = "in training" if any(run.rglob("metrics.jsonl")) else "in preparation"
    return Kill(number, phase, len(list(run.glob("*/waiting/*/*"))), outlived, "Traceback" in said)


def descendants(process: int) -> list[int]:
    """Return all processes that descend from one, as Linux lists them."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        parents.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found, front = [], [process]
    while front:
        front = [child for one in front for child in parents.get(one, [])]
        found += front
    return found


def _is_alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
