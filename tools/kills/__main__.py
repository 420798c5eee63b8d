"""Kill runs, or damage their files, and write what came of it: `make kills`.

python -m tools.kills kills [--kills 40] [--seed 1] [--workers 2] [--out results/kills.md]
python -m tools.kills damage [--flips 2] [--seed 1] [--out results/damage.md]

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
from fedcmp.errors import counted
from tools.kills.damage import DIFFERENT, FAILED, REFUSED, SAME, Swept, sweep
from tools.kills.killing import Killed, kill_runs


def main() -> None:
    """Do one of both, write the figures."""
    parser = argparse.ArgumentParser(prog="python -m tools.kills")
    parser.add_argument("part", choices=["kills", "damage"])
    parser.add_argument("--kills", type=int, default=40, help="kills at least, over several runs")
    parser.add_argument("--flips", type=int, default=2, help="bits that are flipped in each file, one at a time")
    parser.add_argument("--seed", type=int, default=1, help="of moments, signals and flipped bits")
    parser.add_argument("--workers", type=int, default=2, help="worker processes of the runs that are killed")
    parser.add_argument("--out", type=Path, help="a Markdown file for the figures")
    given = parser.parse_args()

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as name:
        if given.part == "kills":
            killed = kill_runs(Path(name), seed=given.seed, kills=given.kills, workers=given.workers, say=say)
            lines, well = killed_lines(killed, workers=given.workers), all_are_the_same(killed)
        else:
            swept = sweep(Path(name), seed=given.seed, flips=given.flips, say=say)
            lines, well = swept_lines(swept, flips=given.flips), not any(v.wrong for vs in swept.values() for v in vs)
    where = f"fedcmp {__version__}, Python {platform.python_version()}, {os.cpu_count()} cores"
    text = "\n".join([f"# {given.part}", "", f"`make kills`, seed {given.seed}, {where}.", "", *lines])
    print(text)
    if given.out is not None:
        given.out.write_text(text, encoding="utf-8")
    sys.exit(0 if well else 1)


def all_are_the_same(killed: list[Killed]) -> bool:
    """Return whether every run ended as the undisturbed one, without a traceback on its way."""
    return not any(run.different or any(kill.traceback for kill in run.kills) for run in killed)


def killed_lines(killed: list[Killed], *, workers: int) -> list[str]:
    """Return the figures of the kills as Markdown."""
    kills = [kill for run in killed for kill in run.kills]
    lines = [
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
    return [*lines, "", f"Equal to the undisturbed run, to the bit: {same} of {len(killed)} runs.", ""]


def swept_lines(swept: dict[str, list[Swept]], *, flips: int) -> list[str]:
    """Return the figures of the damaged files as Markdown."""
    lines = ["## Damaged files", ""]
    for name, verbs in swept.items():
        lines += [
            f"Of a run that is {name}, every file is removed, emptied, cut in half, and has one bit flipped "
            f"({counted(flips, 'time')}):",
            "",
            "| Command | Cases | Refused in one line | The same result | Another result | Traceback |",
            "| --- | ---: | ---: | ---: | ---: | ---: |",
        ]
        for verb in verbs:
            ends = [verb.ends[end] for end in (REFUSED, SAME, DIFFERENT, FAILED)]
            lines.append(f"| `{verb.verb}` | {sum(ends)} | " + " | ".join(map(str, ends)) + " |")
        lines.append("")
    return lines


if __name__ == "__main__":
    main()
