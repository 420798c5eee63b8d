"""Kill runs and damage their files, and write what came of it: `make kills`.

python -m tools.kills [--kills 40] [--seed 1] [--workers 2] [--out results/kills.md]

The result is Markdown, which docs/reliability.md quotes; exit code 1 where anything was lost, hidden or different.
"""

import argparse
import os
import platform
import sys
import tempfile
from collections import Counter
from pathlib import Path

from fedcmp import __version__
from tools.kills.damage import DIFFERENT, FAILED, REFUSED, SAME, Swept, sweep
from tools.kills.killing import Killed, kill_runs


def main() -> None:
    """Do both, write the figures."""
    parser = argparse.ArgumentParser(prog="python -m tools.kills")
    parser.add_argument("--kills", type=int, default=40, help="kills at least, over several runs")
    parser.add_argument("--seed", type=int, default=1, help="of moments, signals and flipped bits")
    parser.add_argument("--workers", type=int, default=2, help="worker processes of the runs that are killed")
    parser.add_argument("--out", type=Path, help="a Markdown file for the figures")
    given = parser.parse_args()

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        killed = kill_runs(work / "kills", seed=given.seed, kills=given.kills, workers=given.workers, say=say)
        swept = sweep(work / "damage", seed=given.seed, say=say)
    text = report(killed, swept, seed=given.seed, workers=given.workers)
    print(text)
    if given.out is not None:
        given.out.write_text(text, encoding="utf-8")
    sys.exit(0 if all_is_well(killed, swept) else 1)


def all_is_well(killed: list[Killed], swept: dict[str, list[Swept]]) -> bool:
    """Return whether every run ended the same, and every command in one line or with the same result."""
    quiet = not any(kill.traceback for run in killed for kill in run.kills)
    return quiet and not any(run.different for run in killed) and not any(v.wrong for vs in swept.values() for v in vs)


def report(killed: list[Killed], swept: dict[str, list[Swept]], *, seed: int, workers: int) -> str:
    """Return the figures as Markdown."""
    kills = [kill for run in killed for kill in run.kills]
    lines = [
        "# kills",
        "",
        f"`make kills`, seed {seed}, fedcmp {__version__}, Python {platform.python_version()}, {os.cpu_count()} cores.",
        "",
        "## Kills",
        "",
        f"{len(killed)} runs of four methods, five clients and three rounds each, {workers} workers; every run is "
        "killed up to four times and then resumed to its end.",
        "",
        "| Signal | Kills | In preparation | In training | Replies on disk | Workers outlived the command "
        "(s, at most) | Tracebacks |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for number in sorted({kill.number for kill in kills}):
        own = [kill for kill in kills if kill.number == number]
        phases = Counter(kill.phase for kill in own)
        lines.append(
            f"| {number.name} | {len(own)} | {phases['in preparation']} | {phases['in training']} | "
            f"{sum(kill.replies for kill in own)} | {max(kill.outlived for kill in own):.1f} | "
            f"{sum(kill.traceback for kill in own)} |"
        )
    same = sum(not run.different for run in killed)
    lines += ["", f"Equal to the undisturbed run, to the bit: {same} of {len(killed)} runs.", ""]
    lines += ["## Damaged files", ""]
    for name, verbs in swept.items():
        lines += [
            f"Of a run that is {name}, every file is removed, emptied, cut in half, and has a bit flipped, twice:",
            "",
            "| Command | Cases | Refused in one line | The same result | Another result | Traceback |",
            "| --- | ---: | ---: | ---: | ---: | ---: |",
        ]
        for verb in verbs:
            ends = [verb.ends[end] for end in (REFUSED, SAME, DIFFERENT, FAILED)]
            lines.append(f"| `{verb.verb}` | {sum(ends)} | " + " | ".join(map(str, ends)) + " |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
