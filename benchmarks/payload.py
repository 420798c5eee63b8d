"""What a smaller payload and a smaller feature store cost: final caption loss and bytes, form by form.

    python benchmarks/payload.py [--out results/payload.jsonl] [--seeds 1 2 3] [--captions 6000] [--rounds 10]
    python benchmarks/payload.py --report           the table of the runs that are there, nothing run
    python benchmarks/payload.py --quick            two forms, one seed, a few captions: a smoke run

Image clusters of the embedded world, five clients, FedAvg and shared-basis at the rates that the study's tuning chose;
one process, one torch thread. A run ends as one line of OUT, known by the hash of all that determines its result, and
is never run twice: stop it at any moment and start it again. The tables next to OUT (.md) give, for each form, the mean
of the final caption loss over the seeds with its standard deviation, the mean of its difference from float32 on the
same seed with its standard error, and the bytes. "Five clients a batch" is float32 again, computed in another
order: its difference is what rounding of the last bit does after ten rounds.
"""

import argparse
import json
import math
import os
import statistics
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}

from fedcmp.config import Recipe, parse_recipe
from fedcmp.files import write_whole
from fedcmp.preparation.sources import cache_folder
from fedcmp.runs.reading import json_lines
from fedcmp.study.plan import PlannedRun
from fedcmp.study.single import prepared_pairs, run_single
from fedcmp.wire.payload import payload_bytes

Record = dict[str, Any]
RATES = {"fedavg": 0.005, "shared-basis": 0.005}
TITLES = {"fedavg": "FedAvg", "shared-basis": "shared-basis (ours)"}
LLAVA_7B = [(4096, 1024), (4096,), (4096, 4096), (4096,)]  # CLIP ViT-L/14 to a 7B LLM


@dataclass(frozen=True)
class Arm:
    """What differs from a run with float32 payload and float16 features."""

    title: str
    federation: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    run: dict[str, Any] = field(default_factory=dict)


ARMS = {
    "float32": Arm("float32"),
    "bfloat16": Arm("bfloat16", {"payload": "bfloat16"}),
    "int8": Arm("int8 up, bfloat16 down", {"payload": "int8"}),
    "int8-without-feedback": Arm("the same, no error feedback", {"payload": "int8", "error_feedback": False}),
    "int8-both-ways": Arm("int8 up and down", {"payload": "int8", "broadcast_payload": "int8"}),
    "features-float8": Arm("float32, features float8_e4m3", data={"feature_dtype": "float8_e4m3"}),
    "features-int8": Arm("float32, features int8", data={"feature_dtype": "int8"}),
    "rounding": Arm("float32, five clients a batch", run={"cohort": 5}),
}


def planned(arm: str, method: str, seed: int, *, captions: int, rounds: int, judged: int) -> PlannedRun:
    """One run."""
    differs = ARMS[arm]
    content = {
        "run": {"seed": seed, "name": "payload", "workers": 1, "methods": [method], **differs.run},
        "data": {"format": "world", "num_pairs": captions, **differs.data},
        "scenario": {"kind": "image", "clients": 5},
        "federation": {"rounds": rounds, **differs.federation},
        "evaluation": {"captions": judged, "questions_per_kind": 0, "samples": 0, "every": rounds},
        "method": {method: {"learning_rate": RATES[method]}},
    }
    return PlannedRun("image", method, seed, parse_recipe(content, "benchmarks/payload.py"))


def store_files(recipe: Recipe, pairs_hash: str) -> int:
    """Bytes of the feature store's shards of the training pairs, as they lie on the disk."""
    prepared, _ = prepared_pairs(recipe, pairs_hash)
    key = json.loads((prepared / "setup.json").read_text(encoding="utf-8"))["feature_keys"][0]
    shards = (cache_folder(recipe) / "features" / key[:32]).glob("shard-*.safetensors")
    return sum(shard.stat().st_size for shard in shards)


def read_records(path: Path) -> dict[str, Record]:
    """The records that are there, by the hash of their run."""
    return {line["hash"]: line for line in json_lines(path)} if path.exists() else {}


def write_records(path: Path, records: Iterable[Record]) -> None:
    """All records, sorted, whole or not at all."""
    ordered = sorted(records, key=lambda record: (record["arm"], record["method"], record["seed"], record["hash"]))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, "".join(json.dumps(record, separators=(",", ":")) + "\n" for record in ordered).encode())


def run_one(arm: str, run: PlannedRun) -> Record:
    """Run, and return what the table needs."""
    found = run_single(run.recipe, run.method, pairs_hash=run.pairs_hash, suites=())
    return {
        "arm": arm,
        "method": run.method,
        "seed": run.seed,
        "hash": run.hash,
        "final": found["final"],
        "bytes_a_round": found["bytes_sent"] / found["rounds"],
        "store_bytes": store_files(run.recipe, run.pairs_hash),
        "training_seconds": found["training_seconds"],
        "clients": found["clients"],
        "captions": found["captions"],
        "rounds": found["rounds"],
        "versions": found["versions"],
    }


def spread(values: list[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else math.nan


def more_or_less(value: float) -> str:
    """Nothing where one seed tells no spread."""
    return "" if math.isnan(value) else f" ± {value:.4f}"


def table(records: dict[tuple[str, str], dict[int, Record]]) -> str:
    """A row a form and method."""
    lines = [
        "| payload | method | caption loss | against float32 | bytes a client and round | feature store |",
        "|---|---|---|---|---|---|",
    ]
    for (arm, method), found in records.items():
        losses = {seed: record["final"]["caption_loss"] for seed, record in found.items()}
        usual = records.get(("float32", method), {})
        paired = [loss - usual[seed]["final"]["caption_loss"] for seed, loss in losses.items() if seed in usual]
        error = spread(paired) / math.sqrt(len(paired)) if paired else math.nan
        against = "–" if arm == "float32" or not paired else f"{statistics.mean(paired):+.4f}{more_or_less(error)}"
        one, seeds = next(iter(found.values())), f"{len(losses)} seed{'s' if len(losses) > 1 else ''}"
        lines.append(
            f"| {ARMS[arm].title} | {TITLES[method]} | {statistics.mean(losses.values()):.4f}"
            f"{more_or_less(spread(list(losses.values())))} ({seeds}) | {against} "
            f"| {one['bytes_a_round'] / one['clients'] / 1e3:,.0f} kB | {one['store_bytes'] / 1e6:.1f} MB |"
        )
    return "\n".join(lines)


def llava_table() -> str:
    """Bytes alone, of the real projector."""
    rows = ["| LLaVA-7B's projector, one way | bytes |", "|---|---|"]
    for payload in ("float32", "bfloat16", "int8"):
        rows.append(f"| {payload} | {payload_bytes(LLAVA_7B, payload) / 1e6:.1f} MB |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results/payload.jsonl"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--captions", type=int, default=6000)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    arms, seeds, judged = list(ARMS), given.seeds, 1024
    if given.quick:
        arms, seeds, judged, given.captions, given.rounds = ["float32", "int8"], seeds[:1], 64, 300, 2
    records: dict[tuple[str, str], dict[int, Record]] = {(arm, method): {} for arm in arms for method in RATES}
    known = read_records(given.out)
    for seed in seeds:
        for arm, method in records:
            run = planned(arm, method, seed, captions=given.captions, rounds=given.rounds, judged=judged)
            if run.hash not in known and not given.report:
                known[run.hash] = run_one(arm, run)
                write_records(given.out, known.values())
            record = known.get(run.hash)
            if record is not None:
                records[arm, method][seed] = record
                print(f"{arm}, {method}, seed {seed}: {record['final']['caption_loss']:.4f}", file=sys.stderr)
    there = {place: found for place, found in records.items() if found}
    if not there:
        sys.exit(f"{given.out}: no run is there yet")
    text = (
        f"# Payload and feature store\n\n## Effect\n{table(there)}\n\n"
        f"Image clusters, 5 clients, {given.captions} captions, {given.rounds} rounds. Loss in nats a caption token: "
        "mean ± standard deviation over the seeds; against float32: mean ± standard error of the difference on the "
        "same seed.\n\n"
        f"## Size\n{llava_table()}\n"
    )
    print(text)
    write_whole(given.out.with_suffix(".md"), text.encode())


if __name__ == "__main__":
    main()
