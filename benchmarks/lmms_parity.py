"""lmms-eval against our own suites, answer by answer, on a tiny exported model in three benchmarks' real formats.

    python benchmarks/lmms_parity.py --lmms-python lmms-env/bin/python [--out results/lmms_parity.json]

Trains one run on the embedded world (under a minute on two cores), exports it, writes the test items of the suites
pope, mme and mmbench as datasets of the real layouts, has the real lmms-eval ask the exported folder, and compares
every answer and every figure with what our suites say of the same projector. --limit takes so many pictures of each.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

from lmms_answers import compare_answers

from fedcmp.config import parse_recipe
from fedcmp.evaluation.lmms.benchmarks import BENCHMARKS
from fedcmp.evaluation.lmms.environment import probe
from fedcmp.evaluation.lmms.suite import Settings
from fedcmp.evaluation.lmms.world_tables import write_world_benchmarks
from fedcmp.evaluation.suites import prepare_suites
from fedcmp.finished.benchmarks import benchmark_folder
from fedcmp.finished.opening import run_recipe
from fedcmp.model.language import LanguageModel
from fedcmp.model.vision import VisionEncoder
from fedcmp.model.vlm import VLM
from fedcmp.preparation.loading import new_trainable
from fedcmp.preparation.sources import user_cache_folder
from fedcmp.runs.folder import RunFolder
from fedcmp.simulation.train import train


def trained(folder: Path, pairs: int) -> Path:
    recipe = parse_recipe(
        {
            "run": {"name": "parity", "folder": str(folder), "methods": ["shared-basis"], "workers": 2},
            "data": {"num_pairs": pairs},
            "federation": {"rounds": 6},
            "training": {"learning_rate": 0.005},
            "evaluation": {"every": 6, "samples": 0, "questions_per_kind": 0, "captions": 64},
        },
        "parity",
    )
    return train(recipe, progress=lambda _what, _done, _total: None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lmms-python", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--pairs", type=int, default=12_000)
    parser.add_argument("--limit", type=int)
    options = parser.parse_args()
    environment = probe(options.lmms_python)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        run = trained(work, options.pairs)
        written = write_world_benchmarks(work / "datasets", limit=options.limit)
        settings = Settings(
            environment, work / "datasets", work / "cache", [BENCHMARKS[name] for name in written], insisted=True
        )
        outcomes = benchmark_folder(run, settings, print)
        if any(outcome.score is None for found in outcomes.values() for outcome in found):
            raise SystemExit("a benchmark failed; see above")

        recipe = run_recipe(run)
        encoder, language = VisionEncoder("world"), LanguageModel("world")
        projector = new_trainable(recipe, encoder.width, language.width)
        projector.load_state_dict(RunFolder(run).last().projectors["global"])
        suites = prepare_suites(
            "test",
            encoder,
            language,
            user_cache_folder(),
            names=[f"{name}-world" for name in written],
            feature_dtype="float32",
        )
        compared = compare_answers(VLM(language, projector), suites, written, run / "benchmarks")
    for name, found in compared.items():
        print(
            f"{name}: {found['equal']} of {found['answers']} answers equal; {found['figure']}: "
            f"ours {found['ours']:.2f}, lmms-eval {found['lmms_eval']:.2f}"
        )
    result = {
        "command": "python benchmarks/lmms_parity.py --out results/lmms_parity.json",
        "pairs": options.pairs,
        "limit": options.limit,
        "versions": environment.versions,
        "seconds": round(time.monotonic() - begun),
        "benchmarks": compared,
    }
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
