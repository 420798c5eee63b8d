"""Run schedules of faults, and write what came of them: `make faults`.

python -m tools.faults [--schedules 50] [--seed 1] [--only 17] [--at-once 2] [--keep] [--out results/faults.md]

The result is Markdown, which docs/reliability.md quotes; exit code 1 where a schedule did not survive. A schedule
follows from the seed and its number; when its processes reach which line does not: a fault may take several tries to
come back.
"""

import argparse
import os
import platform
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from fedcmp import __version__
from fedcmp.errors import counted
from tools.faults.disk import can_be_mounted
from tools.faults.places import ROUNDS, SITES, export_pairs
from tools.faults.plan import DISK, METHODS, Plan, draw_plan
from tools.faults.verdict import SAME, STOPPED, WITHOUT, WRONG, Result, Trial


def run_all(plans: Sequence[Plan], work: Path, *, at_once: int, keep: bool, say: Callable[[str], None]) -> list[Result]:
    """Run schedules, several side by side.

    Args:
        plans: the schedules.
        work: a folder with a short path.
        at_once: how many run side by side.
        keep: leave the schedules' folders behind.
        say: receives a line per schedule.
    """
    pairs = export_pairs(work / "pairs")
    free: SimpleQueue[Trial] = SimpleQueue()
    for number in range(at_once):
        free.put(Trial(work / str(number), pairs))

    def run(plan: Plan) -> Result:
        trial = free.get()
        try:
            result = trial.of(plan, keep=keep)
        finally:
            free.put(trial)
        say(line_of(result))
        return result

    with ThreadPoolExecutor(at_once) as threads:
        return list(threads.map(run, plans))


def line_of(result: Result) -> str:
    """Return a schedule and its end in one line."""
    setting, ended = result.plan.setting, result.ended
    said = [f"{setting.method} {setting.payload}" + ("" if setting.deadline is None else " deadline")]
    said += ["; ".join(map(str, ended.injected)) or "no fault came to pass"]
    said += ended.stops
    said += [f"{result.end}, {ended.seconds:.1f} s"]
    said += [ended.fault] if ended.fault else []
    said += [f"different: {', '.join(result.different)}"] if result.different else []
    return f"{result.plan.name}: {' | '.join(said)}"


def table(results: Sequence[Result]) -> list[str]:
    """Return the figures as Markdown."""
    kinds = sorted({fault.kind for result in results for fault in result.ended.injected})
    ends = (SAME, WITHOUT, STOPPED, WRONG)
    faults = sum(len(result.ended.injected) for result in results)
    lines = [
        "## Fault schedules",
        "",
        f"{counted(len(results), 'schedule')} of a server and {len(SITES)} sites as processes, {ROUNDS} rounds of "
        f"{', '.join(dict.fromkeys(method for method, _ in METHODS))}, in part with int8 updates and error feedback; "
        f"{faults} faults, {sum(result.ended.kills for result in results)} kills by SIGKILL, "
        f"{sum(result.ended.seconds for result in results) / max(1, len(results)):.0f} s per schedule.",
        "",
        "| End | Schedules |",
        "| --- | ---: |",
    ]
    found = Counter(result.end for result in results)
    lines += [f"| {end} | {found[end]} |" for end in ends]
    lines += ["", "| Fault | Came to pass | In schedules | Of these wrong |", "| --- | ---: | ---: | ---: |"]
    for kind in kinds:
        own = [result for result in results if any(fault.kind == kind for fault in result.ended.injected)]
        times = sum(fault.kind == kind for result in results for fault in result.ended.injected)
        lines.append(f"| {kind} | {times} | {len(own)} | {sum(result.end == WRONG for result in own)} |")
    wrong = [result.plan.name for result in results if result.end == WRONG]
    first, last = results[0].plan.name, results[-1].plan.name
    lines += ["", f"Schedules (seed/number): {first} to {last}; wrong: {', '.join(wrong) or 'none'}."]
    return lines


def main() -> None:
    """Run the schedules, write the figures."""
    parser = argparse.ArgumentParser(prog="python -m tools.faults")
    parser.add_argument("--schedules", type=int, default=50, help="number of schedules")
    parser.add_argument("--seed", type=int, default=1, help="of the set of schedules")
    parser.add_argument("--at-once", type=int, default=2, help="schedules that run side by side")
    parser.add_argument("--only", type=int, action="append", help="run this number of the set only; may be repeated")
    parser.add_argument("--keep", action="store_true", help="leave the schedules' folders behind, to look into")
    parser.add_argument("--out", type=Path, help="a Markdown file for the figures")
    given = parser.parse_args()

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # file systems are unmounted on the way out
    work = Path(tempfile.mkdtemp(prefix="faults-"))
    disks = can_be_mounted(work / "disk")
    plans = [draw_plan(given.seed, number, disks=disks) for number in given.only or range(given.schedules)]
    results = run_all(plans, work, at_once=given.at_once, keep=given.keep, say=say)
    where = f"fedcmp {__version__}, Python {platform.python_version()}, {os.cpu_count()} cores"
    lines = ["# faults", "", f"`make faults`, seed {given.seed}, {where}.", "", *table(results)]
    if not disks:
        lines += ["", f"Without the fault `{DISK}`: this user may not mount a file system."]
    text = "\n".join([*lines, ""])
    print(text)
    if given.out is not None:
        given.out.write_text(text, encoding="utf-8")
    sys.exit(0 if all(result.end != WRONG for result in results) else 1)


if __name__ == "__main__":
    main()
