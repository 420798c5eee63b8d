"""What FP8 frozen weights do to the caption loss, on the embedded world.

    python benchmarks/precision.py [--seeds 1 2 3] [--out results/precision.json]

FedAvg and fedcmp, image scenario, five clients, ten rounds, 6,000 captions: once with the LLM's linear layers as they
are (float32), once with model.frozen_precision = "float8" (on a CPU emulated: weights, activations and gradients are
really rounded to e4m3, products are exact). A projector trained with FP8 is judged twice: with the FP8 LLM, and with
the float32 one, which is what an exported checkpoint has. Prints the final caption loss by method and the paired
difference over the seeds. Runs that --out holds already are not run again.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

from fedcmp.config import Recipe, parse_recipe
from fedcmp.files import write_whole
from fedcmp.finished.evaluate import evaluate_run
from fedcmp.simulation.train import train

METHODS = {"fedavg": 0.005, "shared-basis": 0.005}  # the best rates of the study's tuning at this size
PRECISIONS = ("same", "float8")
FIGURES = ("caption_loss", "worst_group_loss", "question_accuracy")


def quiet(_what: str, _done: int, _total: int) -> None:
    return None


def recipe_for(seed: int, precision: str, captions: int, folder: Path, workers: int) -> Recipe:
    content: dict[str, dict[str, Any]] = {
        "run": {
            "name": f"{precision}-{seed}",
            "folder": str(folder / "runs"),
            "cache": str(folder / "cache"),
            "seed": seed,
            "methods": list(METHODS),
            "workers": workers,
        },
        "model": {"frozen_precision": precision},
        "data": {"num_pairs": captions},
        "scenario": {"kind": "image", "clients": 5},
        "federation": {"rounds": 10},
        "evaluation": {"every": 10, "captions": 1024, "questions_per_kind": 48, "samples": 0},
        "method": {name: {"learning_rate": rate} for name, rate in METHODS.items()},
    }
    return parse_recipe(content, "benchmark")


def run(seed: int, precision: str, captions: int, folder: Path, workers: int) -> dict[str, Any]:
    """method -> judged with -> figures."""
    recipe = recipe_for(seed, precision, captions, folder, workers)
    start = time.perf_counter()
    place = train(recipe, overwrite=True, progress=quiet)
    seconds = time.perf_counter() - start
    out: dict[str, Any] = {}
    for method in METHODS:
        out[method] = {}
        for judged_with in dict.fromkeys((precision, "same")):
            found = evaluate_run(place / method, [f"model.frozen_precision={judged_with}"], progress=quiet)["global"]
            out[method][judged_with] = {key: round(found[key], 6) for key in FIGURES}
    return out | {"seconds": round(seconds, 1)}


def report(runs: dict[str, Any], seeds: list[int], captions: int) -> list[str]:
    lines = [f"image scenario, 5 clients, 10 rounds, {captions} captions, seeds {', '.join(map(str, seeds))}"]
    lines.append("caption loss in nats a token, mean ± standard deviation over the seeds; question accuracy in percent")
    for method in METHODS:
        base = [runs[f"same-{seed}"][method]["same"] for seed in seeds]
        for trained, judged in (("same", "same"), ("float8", "float8"), ("float8", "same")):
            own = [runs[f"{trained}-{seed}"][method][judged] for seed in seeds]
            label = f"{method:7} trained with {trained:6}, judged with {judged:6}"
            loss, worst = (spread([figures[key] for figures in own]) for key in FIGURES[:2])
            answers = statistics.mean(figures["question_accuracy"] for figures in own)
            line = f"{label}   loss {loss}   worst group {worst}   questions {100 * answers:.1f}"
            if trained != "same":
                pairs = zip(own, base, strict=True)
                line += f"   loss minus float32's {spread([a['caption_loss'] - b['caption_loss'] for a, b in pairs])}"
            lines.append(line)
    return lines


def spread(values: list[float]) -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.4f} ± {deviation:.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--captions", type=int, default=6000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=None, help="a JSON file: what it holds is not run again")
    options = parser.parse_args()
    setting = {"captions": options.captions, "rates": METHODS}
    kept: dict[str, Any] = {"setting": setting, "runs": {}}
    if options.out is not None and options.out.exists():
        found = json.loads(options.out.read_text(encoding="utf-8"))
        if found.get("setting") != setting:
            parser.exit(2, f"{options.out}: holds runs of another setting; give another file\n")
        kept = found
    with tempfile.TemporaryDirectory() as name:
        for seed in options.seeds:
            for precision in PRECISIONS:
                key = f"{precision}-{seed}"
                if key in kept["runs"]:
                    continue
                print(key, file=sys.stderr, flush=True)
                kept["runs"][key] = run(seed, precision, options.captions, Path(name), options.workers)
                if options.out is not None:
                    options.out.parent.mkdir(parents=True, exist_ok=True)
                    write_whole(options.out, (json.dumps(kept, indent=1, sort_keys=True) + "\n").encode())
    print(*report(kept["runs"], options.seeds, options.captions), sep="\n")


if __name__ == "__main__":
    main()
