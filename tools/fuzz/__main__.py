"""Feed damaged and hostile inputs to everything that reads any, and write what came of it: `make fuzz`.

python -m tools.fuzz [--kind recipes ...] [--count N] [--seed 1] [--first 0] [--keep faults] [--out results/fuzz.md]

The result is Markdown, which docs/reliability.md quotes; exit code 1 where there was a fault. Input number n of a kind
depends on the seed, the kind and n alone: what a fault prints repeats it.
"""

import argparse
import logging
import os
import platform
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from fedcmp import __version__
from tools.fuzz.images import Images
from tools.fuzz.messages import Messages
from tools.fuzz.pairs import Records, Tables, Tars
from tools.fuzz.payloads import Payloads
from tools.fuzz.recipes import Recipes
from tools.fuzz.run_files import RunFiles
from tools.fuzz.running import MEMORY, SECONDS, Figures, Kind, run_kind
from tools.fuzz.site_messages import SiteMessages

KINDS: dict[str, Callable[[Path], Kind]] = {
    kind.name: kind for kind in (Recipes, Records, Tars, Images, Tables, Messages, SiteMessages, Payloads, RunFiles)
}
INPUTS = {SiteMessages.name: 100_000}  # of the others 3,000
READERS = {
    "recipes": "recipes and `-o` values",
    "records": "annotation records (JSON, JSON lines)",
    "tars": "WebDataset tars",
    "images": "images of nine formats",
    "parquet": "parquet files",
    "messages": "messages, frames and their files",
    "site-messages": "messages between server, edges and sites, as frames and in Flower's envelope",
    "payloads": "replies of a client, by ten server rules",
    "run-files": "a run's files, as reports and resuming read them",
}


def main() -> None:
    """Feed the kinds, write the figures."""
    parser = argparse.ArgumentParser(prog="python -m tools.fuzz")
    parser.add_argument("--kind", choices=list(KINDS), action="append", help="only these; may be given several times")
    parser.add_argument("--count", type=int, help="inputs per kind; default: 3,000, of site messages 100,000")
    parser.add_argument("--seed", type=int, default=1, help="of all inputs")
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--keep", type=Path, default=Path("faults"), help="folder for inputs that lead to faults")
    parser.add_argument("--out", type=Path, help="a Markdown file for the figures")
    given = parser.parse_args()

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    figures = []
    for name in given.kind or KINDS:
        numbers = range(given.first, given.first + (given.count or INPUTS.get(name, 3000)))
        figures.append(fuzz(name, seed=given.seed, numbers=numbers, keep=given.keep, say=say))
        say(row(figures[-1], seed=given.seed))
    where = f"fedcmp {__version__}, Python {platform.python_version()}, {os.cpu_count()} cores"
    text = "\n".join(["# fuzz", "", f"`make fuzz`, seed {given.seed}, {where}.", "", *lines(figures, seed=given.seed)])
    print(text)
    if given.out is not None:
        given.out.write_text(text, encoding="utf-8")
    sys.exit(any(one.faults for one in figures))


def fuzz(
    name: str, *, seed: int, numbers: range, keep: Path | None = None, say: Callable[[str], None] = lambda _: None
) -> Figures:
    """Feed inputs of one kind, in a folder of their own, with the package's log and warnings silent.

    Args:
        name: one of KINDS.
        seed: of all inputs.
        numbers: which inputs.
        keep: a folder for those that lead to faults.
        say: receives a line per fault.
    """
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with tempfile.TemporaryDirectory() as work, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return run_kind(KINDS[name](Path(work)), seed=seed, numbers=numbers, keep=keep, say=say)
    finally:
        logging.disable(before)


def row(one: Figures, *, seed: int) -> str:
    """Return the figures of one kind as a row of the table."""
    numbers = f"{one.inputs:,} | {one.accepted:,} | {one.refused:,} | {len(one.faults)} | {one.seconds:.0f}"
    numbers += f" | {1000 * one.slowest:.0f} | {one.memory / 1e6:.0f} | {seed}"
    return f"| {READERS[one.kind]} | {numbers} |"


def lines(figures: Sequence[Figures], *, seed: int) -> list[str]:
    """Return the figures as Markdown."""
    return [
        "## Hostile inputs",
        "",
        "Valid inputs with flipped bits, cut off, spliced, and with hostile values in them (numbers out of all bounds, "
        "NaN, nesting, NUL, halves of characters, escape sequences, wrong types, keys twice). Refused: in one line, or "
        f"pair by pair with a reason. A fault is anything else, more than {SECONDS:g} s, or more than "
        f"{MEMORY / 2**30:g} GiB (of messages between server, edges and sites: {SiteMessages.memory / 2**20:g} MiB). "
        "Slowest: of a core's time. Memory: what all inputs of a row added to the most that was in use.",
        "",
        "| Input | Inputs | Accepted | Refused | Faults | Seconds | Slowest (ms) | Memory (MB) | Seed |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        *(row(one, seed=seed) for one in figures),
        "",
    ]


if __name__ == "__main__":
    main()
