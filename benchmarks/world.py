"""What the embedded world can tell: central training against the blind LLM, by kind of question, over seeds.

    python -m benchmarks.world [--pairs 20000] [--seeds 3] [--out results/world.json]

The projector is trained centrally on captions only (at most 50,000), then answers balanced questions about held-out
test scenes, at least 500 of each kind. Prints accuracy of the blind LLM, of the trained model (mean and spread over
seeds) and the gain; the goal is at least 10 points in every kind. Before that, the frozen parts alone: retrieval by
the tiny CLIP, and what the tiny Llama makes of perfectly described cells: the most that a projector could reach.
"""

import argparse
import json
import os
import tempfile
import time
from collections import defaultdict
from pathlib import Path

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

import numpy as np
import torch
from PIL import Image

from fedcmp.config import parse_recipe
from fedcmp.model.dual_encoder import DualEncoder
from fedcmp.model.language import LanguageModel
from fedcmp.model.vision import VisionEncoder
from fedcmp.runs.folder import RunFolder
from fedcmp.simulation.train import train
from fedcmp.world.scene import VALIDATION_SEED, make_scenes
from tools.pretrain_world.documents import BagEncoder


def quiet(_what: str, _done: int, _total: int) -> None:
    return None


@torch.no_grad()
def retrieval(count: int = 1024, choices: int = 64) -> dict[str, float]:
    """How often a picture's own caption is the nearest, among all captions and among groups of `choices`."""
    scenes = make_scenes(VALIDATION_SEED, 0, count)
    encoder = VisionEncoder("world")
    dual = DualEncoder("world", encoder)
    similarity = dual.images([Image.fromarray(p) for p in scenes.images]) @ dual.texts(scenes.captions).T
    groups = similarity.view(count // choices, choices, count // choices, choices).diagonal(dim1=0, dim2=2)
    own = torch.arange(choices)[:, None]
    return {
        f"1 of {count}": float((similarity.argmax(1) == torch.arange(count)).float().mean()),
        f"1 of {choices}": float((groups.argmax(1) == own).float().mean()),
    }


@torch.no_grad()
def reading(count: int = 1500) -> dict[str, float]:
    """Answers of the tiny Llama about cells described by the plain sum of their words' embeddings, by kind."""
    language, bags = LanguageModel("world"), BagEncoder()
    scenes = make_scenes(VALIDATION_SEED, 0, count, images=False)
    ids = bags.cell_ids(scenes)
    cells = (language.embed(ids) * (ids != language.pad)[..., None]).sum(2)
    by_length: dict[int, list[tuple[int, str, list[int]]]] = defaultdict(list)
    for row, questions in enumerate(scenes.questions):
        for question in questions:
            asked = bags.encode(f"question : {question.text} answer : {question.answer}")
            by_length[len(asked)].append((row, question.kind, asked))
    right: dict[str, list[bool]] = defaultdict(list)
    for members in by_length.values():
        for at in range(0, len(members), 256):
            rows, kinds, asked = zip(*members[at : at + 256], strict=True)
            best = language.greedy_tokens(cells[list(rows)], torch.tensor(asked), 1)[:, 0]
            for kind, said, own in zip(kinds, best.tolist(), asked, strict=True):
                right[kind].append(said == own[-1])
    return {kind: float(np.mean(hits)) for kind, hits in sorted(right.items())}


def scenes_a_second(count: int = 8192) -> float:
    """Scenes with pixels, captions and questions, on one core; the goal is 5,000."""
    make_scenes(VALIDATION_SEED, 0, 256)  # draws the atlas
    start = time.perf_counter()
    make_scenes(VALIDATION_SEED, 256, count)
    return count / (time.perf_counter() - start)


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
    speed = scenes_a_second()
    print(f"{speed:.0f} scenes/s on one core, {speed / 5000:.2f}x the goal of 5,000")
    found, read = retrieval(), reading()
    print("frozen CLIP, own caption nearest: " + ", ".join(f"{name} {100 * hit:.1f} %" for name, hit in found.items()))
    print("frozen Llama about perfect cells: " + ", ".join(f"{kind} {100 * hit:.1f} %" for kind, hit in read.items()))
    with tempfile.TemporaryDirectory() as name:
        results = [run(options.pairs, seed, Path(name)) for seed in range(options.seeds)]
    blind = results[0][0]
    kinds = list(blind["question_accuracy_by_kind"])
    asked = blind["questions_by_kind"]
    if min(asked.values()) < 500:
        raise SystemExit(f"fewer than 500 balanced questions of a kind: {asked}")
    print("balanced questions: " + ", ".join(f"{kind} {count}" for kind, count in asked.items()))
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
        seen = f"{100 * row['trained']:.1f} ± {100 * row['spread']:.1f}"
        print(f"| {kind} | {100 * row['blind']:.1f} | {seen} | {gain:+.1f} |")
    trained = f"{np.mean(losses):.3f} ± {np.std(losses):.3f}"
    print(f"caption loss: blind {blind['caption_loss']:.3f}, trained {trained}")
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        content = {"pairs": options.pairs, "seeds": options.seeds, "kinds": table}
        content |= {"retrieval": found, "reading": read, "blind_loss": blind["caption_loss"], "trained_loss": losses}
        options.out.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
