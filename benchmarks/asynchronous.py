"""Time to a given loss, synchronous rounds beside asynchronous ones: clients whose speeds differ by a factor of ten.

    python benchmarks/asynchronous.py [--out results/asynchronous.md] [--seeds 1 2 3] [--work build/asynchronous]
    python benchmarks/asynchronous.py --quick       ten clients, one seed, nothing on the wall's clock: a smoke run

Virtual: 100 clients of the embedded world (image clusters), FedAvg, six parts of 32 pairs each. A client's part takes 1
to 10 virtual seconds, evenly spread on a logarithmic scale and dealt out by the seed; training is real, on one worker.
On the wall: five clients that really wait (0.5 to 5 s a part), each in a process of its own.
Synchronous rounds wait for all clients, or close at the median client's time; asynchronous ones merge whenever the
buffer is full. All see the same pairs, once. Every run is `fedcmp.train` in a folder of its own under WORK: one that
was stopped continues, one that is finished is not run again. Caption loss is on held-out pairs, after every merge or
every few; the targets are shares of what synchronous rounds that wait for all gain, seed by seed, and a time is where
the line between two evaluations crosses the target. Given are mean and standard deviation over the seeds.
"""

import argparse
import os
import random
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}

import fedcmp
from fedcmp.errors import counted
from fedcmp.files import write_whole
from fedcmp.runs.reading import Run, load_runs
from fedcmp.version import __version__

TARGETS = (0.5, 0.75, 0.9)
SPREAD = 10.0
MOST_EVALUATIONS = 40
FIRST = "waits for all"  # the arm whose gain the targets are shares of


@dataclass(frozen=True)
class Experiment:
    """One table.

    Attributes:
        title: above the table.
        clients: K.
        parts: of each client's pairs.
        fastest: seconds that the fastest client needs for a part; the slowest needs SPREAD times as many.
        clock: "virtual" or "real".
        captions: held-out pairs for the loss.
        buffers: sizes of the buffer that are tried.
    """

    title: str
    clients: int
    parts: int
    fastest: float
    clock: str
    captions: int
    buffers: tuple[int, ...]

    def seconds(self, seed: int) -> list[float]:
        """Return what each client needs for a part."""
        steps = max(1, self.clients - 1)
        spread = [round(self.fastest * SPREAD ** (k / steps), 3) for k in range(self.clients)]
        random.Random(seed).shuffle(spread)
        return spread

    def arms(self) -> dict[str, dict[str, Any]]:
        """Return name -> keys of [federation]."""
        found: dict[str, dict[str, Any]] = {f"synchronous, {FIRST}": {}}
        if self.clock == "virtual":
            found["synchronous, closes at the median"] = {"deadline": self.fastest * SPREAD**0.5}
        for size in self.buffers:
            found[f"asynchronous, buffer {size}"] = {"mode": "async", "buffer_size": size}
        undiscounted = {"mode": "async", "buffer_size": self.buffers[0], "staleness_discount": 0.0}
        if self.clock == "virtual":
            found[f"asynchronous, buffer {self.buffers[0]}, no discount"] = undiscounted
        return found

    def recipe(self, federation: dict[str, Any], seed: int, place: Path, name: str) -> dict[str, Any]:
        """Return one run's recipe."""
        merges = self.parts * self.clients // federation.get("buffer_size", self.clients)
        is_async = "mode" in federation
        return {
            "run": {
                "name": name,
                "folder": str(place),
                "methods": ["fedavg"],
                "seed": seed,
                "workers": self.clients if self.clock == "real" else 1,
                "cohort": 1 if is_async or self.clock == "real" else 5,
            },
            "data": {"num_pairs": self.clients * self.parts * 32},
            "scenario": {
                "kind": "image",
                "clients": self.clients,
                "client_seconds": self.seconds(seed),
                "clock": self.clock,
            },
            "federation": {"rounds": self.parts, **federation},
            "evaluation": {
                "every": -(-merges // MOST_EVALUATIONS),
                "captions": self.captions,
                "questions_per_kind": 0,
                "samples": 0,
            },
        }


VIRTUAL = Experiment("100 clients on a virtual clock", 100, 6, 1.0, "virtual", 256, (20, 10))
WALL = Experiment("5 clients that really wait", 5, 6, 0.5, "real", 128, (2,))
QUICK = Experiment("10 clients on a virtual clock: a smoke run", 10, 2, 1.0, "virtual", 32, (2,))


@dataclass
class Curve:
    """What one run came to.

    Attributes:
        points: (seconds, caption loss), from (0, the initial projector's) on.
        staleness: mean over the updates that were merged; 0 of synchronous rounds.
        parts: how many were merged.
    """

    points: list[tuple[float, float]]
    staleness: float
    parts: int

    @property
    def gain(self) -> float:
        return self.points[0][1] - self.points[-1][1]

    def time_to(self, loss: float) -> float | None:
        """Return when the curve first crosses a loss, None where it does not."""
        for (before, above), (after, below) in zip(self.points, self.points[1:], strict=False):
            if below <= loss:
                return before + (after - before) * (above - loss) / (above - below) if above > below else after
        return None


def curve_of(run: Run) -> Curve:
    """Read a finished run's records."""
    clocks = {record.round: float(record.clock or 0.0) for record in run.server_rounds}
    initial = run.reference("initial")
    assert initial is not None
    found = [(clocks[number], lines[0].caption_loss) for number, lines in run.measures(run.split).items() if number]
    points = [(0.0, float(initial.caption_loss or 0.0))]
    points += [(seconds, loss) for seconds, loss in sorted(found) if loss is not None]
    merged = [record for record in run.client_rounds if not record.refused]
    ages = [record.staleness or 0 for record in merged]
    return Curve(points, statistics.fmean(ages), len(merged))


@dataclass
class Table:
    """One experiment's curves: arm -> seed -> curve."""

    experiment: Experiment
    curves: dict[str, dict[int, Curve]] = field(default_factory=dict)

    def lines(self) -> Iterable[str]:
        """Yield the table in Markdown."""
        unit = "virtual s" if self.experiment.clock == "virtual" else "s"
        yield f"## {self.experiment.title}"
        yield ""
        shares = [f"{unit} to {share:.0%} of the gain" for share in TARGETS]
        yield "| rounds | " + " | ".join([*shares, f"{unit} in all", "final loss", "parts merged", "staleness"]) + " |"
        yield "|---|" + "---:|" * (len(TARGETS) + 4)
        reference = self.curves[f"synchronous, {FIRST}"]
        for arm, curves in self.curves.items():
            cells = []
            for share in TARGETS:
                times = [c.time_to(reference[s].points[0][1] - share * reference[s].gain) for s, c in curves.items()]
                cells.append(spread_text([time for time in times if time is not None], of=len(times)))
            cells.append(spread_text([curve.points[-1][0] for curve in curves.values()]))
            cells.append(spread_text([curve.points[-1][1] for curve in curves.values()], digits=3))
            cells.append(f"{statistics.fmean(curve.parts for curve in curves.values()):.0f}")
            cells.append(f"{statistics.fmean(curve.staleness for curve in curves.values()):.1f}")
            yield f"| {arm} | " + " | ".join(cells) + " |"
        yield ""


def spread_text(values: Sequence[float], *, of: int | None = None, digits: int = 1) -> str:
    """Return mean and standard deviation, and how many runs they are of where some never got there."""
    if not values:
        return "never"
    text = f"{statistics.fmean(values):.{digits}f}"
    if len(values) > 1:
        text += f" ± {statistics.stdev(values):.{digits}f}"
    return text if of is None or of == len(values) else f"{text} ({len(values)} of {of} runs)"


def measure(experiment: Experiment, seeds: Sequence[int], work: Path) -> Table:
    """Run what is not finished yet."""
    table = Table(experiment)
    for seed in seeds:
        for number, (arm, federation) in enumerate(experiment.arms().items()):
            name = f"{experiment.clients}-{experiment.clock}-{number}-seed-{seed}"
            print(f"{experiment.title}, seed {seed}: {arm}", flush=True)
            recipe = experiment.recipe(federation, seed, work, name)
            fedcmp.train(recipe, resume=(work / name).exists(), quiet=True)
            (run,) = load_runs(work / name)
            table.curves.setdefault(arm, {})[seed] = curve_of(run)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results/asynchronous.md"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--work", type=Path, default=Path("build/asynchronous"))
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    seeds = given.seeds[:1] if given.quick else given.seeds
    experiments = [QUICK] if given.quick else [VIRTUAL, WALL]
    text = [
        "# Asynchronous rounds",
        "",
        f"`python benchmarks/asynchronous.py`, fedcmp {__version__}; mean ± standard deviation over "
        f"{counted(len(seeds), 'seed')}.",
        "",
    ]
    for experiment in experiments:
        text += measure(experiment, seeds, given.work).lines()
    print("\n".join(text))
    if not given.quick:
        write_whole(given.out, "\n".join(text).encode())


if __name__ == "__main__":
    main()
