"""What the embedded world can tell: central training against the blind LLM, by kind of question, over seeds.

    python benchmarks/world.py [--pairs 20000] [--seeds 3] [--out results/world.json]

The projector is trained centrally on captions only (at most 50,000), then answers balanced questions about held-out test
scenes, at least 500 of each kind. Prints accuracy of the blind LLM, of the trained model (mean and spread over seeds)
and the gain; the goal is at least 10 points in every kind.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

from fedcmp.config import parse_recipe
from fedcmp.runs import RunFolder
from fedcmp.simulation.train import train


def quiet(_what: str, _done: int, _total: int) -> None:
    return None


def run(pairs: int, seed: int, folder: Path) -> tuple[dict[str, object], dict[str, object]]:
    """The blind and the trained model's evaluation records."""
    content = {
        "run": {"name": f"seed-{seed}", "folder": str(folder), "seed": seed, "methods": ["centralized"], "workers": 2},
        "data": {"num_pairs": pairs},
        "federation": {"rounds": 2},
        "training": {"learning_rate": 0.003},
        "evaluation": {"every": 2, "captions": 2000, "questions_per_kind": 560, "samples": 0},
    }
    lines = RunFolder(train(parse_recipe(content, "benchmark"), progress=quiet)).lines()
    judged = [line for line in lines if line["kind"] == "evaluation"]
    return next(line for line in judged if line["model"] == "blind"), judged[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=20000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=None, help="a JSON file for the figures")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        results = [run(options.pairs, seed, Path(name)) for seed in range(options.seeds)]
    blind = results[0][0]
    kinds = list(blind["question_accuracy_by_kind"])
    table = {}
    for kind in kinds:
        seen = [trained["question_accuracy_by_kind"][kind] for _, trained in results]
        table[kind] = {
            "blind": blind["question_accuracy_by_kind"][kind],
            "trained": float(np.mean(seen)),
            "spread": float(np.std(seen, ddof=1)) if len(seen) > 1 else 0.0,
        }
    losses = [trained["caption_loss"] for _, trained in results]
    print(f"{options.pairs} captions, {options.seeds} seeds; accuracy in per cent on balanced questions")
    print("| kind | blind | trained | gain |\n|---|---|---|---|")
    for kind, row in table.items():
        gain = 100 * (row["trained"] - row["blind"])
        print(f"| {kind} | {100 * row['blind']:.1f} | {100 * row['trained']:.1f} ± {100 * row['spread']:.1f} | {gain:+.1f} |")
    print(f"caption loss: blind {blind['caption_loss']:.3f}, trained {np.mean(losses):.3f} ± {np.std(losses, ddof=1):.3f}")
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        content = {"pairs": options.pairs, "seeds": options.seeds, "kinds": table}
        content |= {"blind_loss": blind["caption_loss"], "trained_loss": losses}
        options.out.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
