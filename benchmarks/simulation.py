"""Simulation speed: our rounds per second over training alone, with shared batches, and over Flower's on Ray.

    python benchmarks/simulation.py [--repeats 3] [--out results/simulation.txt]
    python benchmarks/simulation.py --without-flower    ours and the limit, for which Ray need not be installed
    python benchmarks/simulation.py --quick             ours and the limit, a few rounds: a smoke run

A round: K clients train one projector each on so many captions of the embedded world (batches of 16), FedAvg merges
them. On both sides the same pairs, batches and rates, two processes with one torch thread each, float32, frozen
features read from the same store, and no evaluation. Flower's clients call fedcmp.client.training.train_cohort, with
model and pairs kept in the actors (flower_peer.py); ours are those of `fedcmp train`, its checkpoint and metrics of
every round written and synced, which Flower does not do. Timed from a round's end to a later one's, after two rounds of
warm-up: starting Ray or workers and loading models counts for neither. Every way of running takes its turn in each
repetition; given are the best of the repetitions and (in brackets) the median, and ratios of both. The final projectors
must be equal up to rounding: their largest distance is printed, as a share of how far training moved the projector.

The limit is the same steps in a bare loop by the same number of processes (training_limit.py): what rounds of any kind
cannot surpass. Goal: at least .9 of it with one client per batch. Then, for 5 to 5,000 clients that share one set of
pairs, the largest resident memory of the run's own process and of its largest worker: flat.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "false"}

import torch
from memory import high_water, peaks_of_children
from torch import Tensor
from training_limit import limit

from fedcmp.config import Recipe, dump_recipe, parse_recipe
from fedcmp.federation.rounds import Events
from fedcmp.model.text_format import TextFormat
from fedcmp.preparation.loading import Prepared, new_trainable
from fedcmp.preparation.prepare import prepare
from fedcmp.runs.folder import RunFolder
from fedcmp.simulation.method_run import method_run
from fedcmp.simulation.pool import Pool

Tensors = dict[str, Tensor]
INSTALL = ".venv/bin/python -m pip install --constraint constraints.txt --editable '.[benchmarks]'"
BATCH_SIZE, WARM_UP, PROCESSES = 16, 2, 2
FEW = 5  # clients a batch whose activations still fit a core's cache
LIMIT = f"training alone, {PROCESSES} processes"
GOAL = 0.9  # of the limit
FLOWER = f"Flower on Ray, {PROCESSES} actors"
ROUNDING = 1e-2  # of the projector's movement: as much as a learning rate 0.1 % higher changes


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' if count > 1 else ''}"


@dataclass
class Size:
    """One experiment.

    Attributes:
        clients: K.
        captions: of a client in a round.
        rounds: that are timed.
        flower: whether Flower runs it too.
        speeds: way of running -> rounds a second, one figure a repetition.
        projectors: way of running -> final projector.
    """

    clients: int
    captions: int
    rounds: int
    flower: bool = True
    speeds: dict[str, list[float]] = field(default_factory=dict)
    projectors: dict[str, Tensors] = field(default_factory=dict)

    @property
    def all_rounds(self) -> int:
        """With the warm-up, and a last one in which ours evaluates."""
        return WARM_UP + self.rounds + 1

    def ways(self) -> dict[str, tuple[int, int]]:
        """Ours: name -> (workers, clients that share a batch): up to 25 of a worker's, a few, or one."""
        found = {}
        for workers in (PROCESSES, 1) if self.clients <= 100 else (PROCESSES,):
            everyone = math.ceil(self.clients / workers)
            for cohort in sorted({min(everyone, 25), min(FEW, everyone), 1}, reverse=True):
                name = f"fedcmp, {plural(cohort, 'client')} a batch, {plural(workers, 'worker')}"
                found[name] = workers, cohort
        return found

    def add_limit(self, seconds: list[float]) -> None:
        """Take up one repetition of training alone: the seconds of all its rounds."""
        timed = seconds[WARM_UP : WARM_UP + self.rounds]
        self.speeds.setdefault(LIMIT, []).append(self.rounds / sum(timed))

    def add(self, way: str, ends: list[float], projector: Tensors) -> None:
        """Take up one repetition: when its rounds ended and what came of it."""
        seconds = ends[WARM_UP + self.rounds - 1] - ends[WARM_UP - 1]
        self.speeds.setdefault(way, []).append(self.rounds / seconds)
        self.projectors[way] = projector

    def ratio(self, way: str, peer: str) -> str:
        """How many times faster: of the best, and in brackets of the medians."""
        best, middle = max(self.speeds[way]) / max(self.speeds[peer]), statistics.median
        return f"{best:.2f}x ({middle(self.speeds[way]) / middle(self.speeds[peer]):.2f}x)"


SIZES = [Size(5, 32, 15), Size(50, 32, 4), Size(5, 320, 4), Size(500, 32, 1, flower=False)]
MEMORY_CLIENTS, MEMORY_PAIRS = (5, 50, 500, 5000), 10_000


class Clock(Events):
    """When each round was merged and saved."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def round_done(self, *_: object) -> None:
        self.ends.append(time.perf_counter())


def quiet(_what: str, _done: int, _total: int) -> None:
    return None


def recipe_for(size: Size, folder: Path, *, workers: int = 1, cohort: int = 1) -> Recipe:
    content: dict[str, dict[str, Any]] = {
        "run": {"methods": ["fedavg"], "workers": workers, "cohort": cohort, "cache": str(folder / "cache")},
        "data": {"num_pairs": size.clients * size.captions * size.all_rounds},
        "scenario": {"kind": "iid", "clients": size.clients},
        "federation": {"rounds": size.all_rounds},
        "training": {"batch_size": BATCH_SIZE, "learning_rate": 1e-3},
        "evaluation": {"every": size.all_rounds, "captions": 16, "questions_per_kind": 0, "samples": 0},
    }
    return parse_recipe(content, "benchmark")


def run_ours(
    recipe: Recipe, prepared: Path, data: Prepared, initial: Tensors, captions: int
) -> tuple[list[float], Tensors]:
    """When each round ended, and the last global projector."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as name:
        folder = RunFolder(Path(name) / "run")
        folder.begin(dump_recipe(recipe))
        with Pool(recipe, prepared) as pool:
            run = method_run("fedavg", recipe, data, initial, pool, folder, prepared, clock)
            run.run(resume=False, references=False)
        trained = {line["num_examples"] for line in folder.lines() if line["kind"] == "client"}
        if trained != {captions}:
            raise SystemExit(f"clients trained on {sorted(trained)} captions a round instead of {captions}")
        return clock.ends, folder.last().projectors["global"]


def measure(size: Size, folder: Path, *, repeats: int, with_flower: bool, tell: Callable[[str], None]) -> Tensors:
    """Fill in the size's speeds and final projectors; returns the projector that all start from."""
    recipe = recipe_for(size, folder)
    place = folder / f"{size.clients}-{size.captions}"
    prepared, recipe_file = place / "prepared", place / "recipe.toml"
    tell(f"K = {size.clients}, {size.captions} captions: preparing")
    data = prepare(recipe, prepared, quiet)
    recipe_file.write_text(dump_recipe(recipe))
    text_width = TextFormat(recipe.model.language).width
    initial = new_trainable(recipe, data.vision_width, text_width).tensors()
    for repetition in range(repeats):
        for way, (workers, cohort) in size.ways().items():
            tell(f"K = {size.clients}, {size.captions} captions, repetition {repetition + 1} of {repeats}: {way}")
            own = recipe_for(size, folder, workers=workers, cohort=cohort)
            size.add(way, *run_ours(own, prepared, data, initial, size.captions))
        tell(f"K = {size.clients}, {size.captions} captions, repetition {repetition + 1} of {repeats}: {LIMIT}")
        size.add_limit(limit(recipe_file, prepared, processes=PROCESSES))
        if with_flower and size.flower:
            from flower_peer import run as run_flower

            tell(f"K = {size.clients}, {size.captions} captions, repetition {repetition + 1} of {repeats}: {FLOWER}")
            size.add(FLOWER, *run_flower(recipe, recipe_file, prepared, initial, actors=PROCESSES))
    return initial


def distance(one: Tensors, other: Tensors) -> float:
    """Euclidean, over all tensors."""
    return math.sqrt(sum(float((one[name].double() - other[name].double()).square().sum()) for name in one))


def report(size: Size, initial: Tensors) -> list[str]:
    """The lines of one size.

    Raises:
        SystemExit: two ways ended with different projectors.
    """
    head = f"K = {size.clients}, {size.captions} captions a client and round, {size.rounds} rounds a repetition"
    lines = [
        head,
        f"  {'':40}{'rounds/s':>17}{'captions/s':>13}{'over one by one':>18}{'over the limit':>18}{'over Flower':>18}",
    ]
    alone = {workers: way for way, (workers, cohort) in size.ways().items() if cohort == 1}
    for way, speeds in size.speeds.items():
        workers, cohort = size.ways().get(way, (0, 0))
        cells = [f"{max(speeds):.3f} ({statistics.median(speeds):.3f})".rjust(17)]
        cells.append(f"{max(speeds) * size.clients * size.captions:13.0f}")
        cells.append((size.ratio(way, alone[workers]) if cohort > 1 else "").rjust(18))
        cells.append((size.ratio(way, LIMIT) if cohort else "").rjust(18))
        cells.append((size.ratio(way, FLOWER) if cohort and FLOWER in size.speeds else "").rjust(18))
        lines.append(f"  {way:40}{''.join(cells)}".rstrip())
    share = max(size.speeds[alone[PROCESSES]]) / max(size.speeds[LIMIT])
    lines.append(
        f"  goal {GOAL:g} of the limit, one client per batch: {'met' if share >= GOAL else 'not met'} ({share:.3f})"
    )
    reference = size.projectors[alone[PROCESSES]]
    moved = distance(reference, initial)
    apart = {way: distance(projector, reference) / moved for way, projector in size.projectors.items()}
    flower = f", Flower's {apart[FLOWER]:.1e}" if FLOWER in apart else ""
    ours = max(share for way, share in apart.items() if way != FLOWER)
    lines.append(f"  final projectors: ours at most {ours:.1e} of their movement from one by one{flower}")
    if not max(apart.values()) < ROUNDING:
        raise SystemExit("\n".join([*lines, f"error: the final projectors differ by more than {ROUNDING:g}"]))
    return lines


def memory(clients: int, folder: Path) -> dict[str, float]:
    """Two rounds of so many clients in a process of its own: MiB of the run's process and of its largest worker."""
    child = [sys.executable, str(Path(__file__).resolve()), "--memory-of", str(clients), "--folder", str(folder)]
    done = subprocess.run(child, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure_memory(clients: int, folder: Path) -> None:
    """The child's side of `memory`."""
    size = Size(clients, MEMORY_PAIRS // (2 * clients), 0)
    recipe = recipe_for(size, folder, workers=PROCESSES)
    federation = recipe.federation.model_copy(update={"rounds": 2})
    data_section = recipe.data.model_copy(update={"num_pairs": MEMORY_PAIRS})
    recipe = recipe.model_copy(update={"federation": federation, "data": data_section})
    prepared = folder / f"memory-{clients}" / "prepared"
    data = prepare(recipe, prepared, quiet)
    initial = new_trainable(recipe, data.vision_width, TextFormat(recipe.model.language).width).tensors()
    place = RunFolder(folder / f"memory-{clients}" / "run")
    place.begin(dump_recipe(recipe))
    with Pool(recipe, prepared) as pool:
        before = high_water()
        method_run("fedavg", recipe, data, initial, pool, place, prepared, Events()).run(resume=False, references=False)
        workers = max(peaks_of_children())
    print(json.dumps({"run": high_water(), "before": before, "worker": workers}))


def memory_lines(folder: Path, tell: Callable[[str], None]) -> list[str]:
    """The table of memory by number of clients."""
    lines = [f"memory: two rounds of FedAvg over {MEMORY_PAIRS:,} pairs, MiB at the most"]
    lines.append(f"  {'clients':>8}{'the run':>10}{'a worker':>10}")
    peaks = {}
    for clients in MEMORY_CLIENTS:
        tell(f"memory of {clients} clients")
        found = peaks[clients] = memory(clients, folder)
        lines.append(f"  {clients:>8,}{found['run']:10.0f}{found['worker']:10.0f}")
    first, last = peaks[MEMORY_CLIENTS[0]], peaks[MEMORY_CLIENTS[-1]]
    ratios = f"the run {last['run'] / first['run']:.2f}x, a worker {last['worker'] / first['worker']:.2f}x"
    return [*lines, f"  {MEMORY_CLIENTS[-1]:,} clients over {MEMORY_CLIENTS[0]}: {ratios}"]


def versions(*names: str) -> str:
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=None, help="a text file for what is printed")
    parser.add_argument("--without-flower", action="store_true", help="ours and the limit alone")
    parser.add_argument("--quick", action="store_true", help="ours and the limit, five clients, three timed rounds")
    parser.add_argument("--memory-of", type=int, default=None, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory_of is not None:
        torch.set_num_threads(1)
        measure_memory(options.memory_of, options.folder)
        return
    if options.repeats < 1:
        parser.error("--repeats: must be at least 1")
    with_flower = not options.quick and not options.without_flower
    if with_flower and not all(importlib.util.find_spec(name) for name in ("flwr", "ray")):
        parser.exit(2, f"Flower's simulation is not installed: {INSTALL} (or --without-flower)\n")
    torch.set_num_threads(1)

    def tell(what: str) -> None:
        print(what, file=sys.stderr, flush=True)

    sizes, repeats = ([Size(5, 32, 3)], 1) if options.quick else (SIZES, options.repeats)
    lines = [versions("fedcmp", "torch", *(("flwr", "ray") if with_flower else ())) + f"; {os.cpu_count()} cores"]
    lines.append(f"best (median) of {repeats} repetitions; batches of {BATCH_SIZE}, FedAvg, nothing is evaluated")
    print(*lines, sep="\n", flush=True)
    with tempfile.TemporaryDirectory() as name:
        for size in sizes:
            initial = measure(size, Path(name), repeats=repeats, with_flower=with_flower, tell=tell)
            found = report(size, initial)
            print(*found, sep="\n", flush=True)
            lines += found
        if not options.quick:
            found = memory_lines(Path(name), tell)
            print(*found, sep="\n", flush=True)
            lines += found
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
