"""One run of a study from its recipe to its record, in this process: prepare (or find prepared), train, judge."""

import contextlib
import importlib.metadata
import platform
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from fedcmp import __version__
from fedcmp.config import Recipe, dump_recipe
from fedcmp.config.methods import NOT_FEDERATED
from fedcmp.evaluation.suites.frozen import FROZEN
from fedcmp.federation.rounds import Events
from fedcmp.preparation.loading import Prepared, initial_trainable, load_prepared, load_text
from fedcmp.preparation.prepare import prepare
from fedcmp.preparation.sources import cache_folder
from fedcmp.runs.folder import RunFolder
from fedcmp.simulation.evaluate import held_out_figures
from fedcmp.simulation.method_run import method_run
from fedcmp.simulation.pool import Pool

_CLIENT_KEYS = ("round", "client", "loss", "alignment_error", "update_norm", "weight", "num_examples")
Record = dict[str, Any]


def run_single(
    recipe: Recipe, method: str, *, pairs_hash: str, suites: Sequence[str], keep: Path | None = None
) -> Record:
    """Train and judge one method.

    Args:
        recipe: complete, with `method` as its only method.
        method: its name.
        pairs_hash: runs with the same one share their prepared pairs.
        suites: the suites that are asked at the end.
        keep: where the run's folder is kept, its last projector in it; None: nowhere.

    Returns:
        What the run file keeps of it: final figures, those of evaluated rounds, clients' losses and weights.

    Raises:
        UserError: unusable data, or a client's update that was refused.
    """
    torch.set_num_threads(1)
    prepared, data = prepared_pairs(recipe, pairs_hash)
    text = load_text(recipe)
    initial = initial_trainable(recipe, data.vision_width, text.width).tensors()
    with tempfile.TemporaryDirectory() as name:
        folder = RunFolder(Path(name) / "run")
        folder.begin(dump_recipe(recipe))
        with Pool(recipe, prepared) as pool:
            run = method_run(method, recipe, data, initial, pool, folder, prepared, Events(), suites=suites)
            run.run(resume=False, references=False)
        lines = folder.lines()
        if keep is not None:
            _keep(folder.path, keep)
    return _record(recipe, method, lines)


def _keep(folder: Path, place: Path) -> None:
    """Copy a run's folder, whole or not at all, in the place of an earlier one."""
    unfinished = place.with_name(f".{place.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(folder, unfinished)
    shutil.rmtree(place, ignore_errors=True)
    unfinished.rename(place)


def judge_blind(recipe: Recipe, *, pairs_hash: str, suites: Sequence[str]) -> Record:
    """Figures of the LLM without the picture: what every suite and caption loss is compared with."""
    torch.set_num_threads(1)
    prepared, data = prepared_pairs(recipe, pairs_hash)
    with Pool(recipe, prepared) as pool:
        judged = held_out_figures(pool, recipe, data, None, blind=True, suites=suites)
    kept = {
        name: {key: score[key] for key in ("score", "chance", "noise", "highest", "units")}
        for name, score in judged.get("suites", {}).items()
    }
    return {
        "caption_loss": judged["caption_loss"],
        "worst_family_loss": judged["worst_group_loss"],
        "family_losses": judged["group_losses"],
        "suites": {
            name: score | {"items": score["units"], "hash": FROZEN[name, judged["split"]]}
            for name, score in kept.items()
        },
    }


def prepared_pairs(recipe: Recipe, pairs_hash: str) -> tuple[Path, Prepared]:
    """The pairs of a recipe, prepared once for all methods."""
    place = cache_folder(recipe) / "study" / pairs_hash[:24]
    place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(place.with_name(f".{place.name}.lock")):
        if not (place / "setup.json").exists():
            shutil.rmtree(place, ignore_errors=True)
            prepare(recipe, place, lambda _what, _done, _total: None)
    return place, load_prepared(recipe, place)


def versions() -> dict[str, str]:
    """What computed a record."""
    known = {"fedcmp": __version__, "python": platform.python_version()}
    for name in ("torch", "transformers", "numpy"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            known[name] = importlib.metadata.version(name)
    return known


def _record(recipe: Recipe, method: str, lines: list[Record]) -> Record:
    rounds = sorted({line["round"] for line in lines if line["kind"] == "evaluation"})
    evaluated = [_mean_evaluation([e for e in lines if e["kind"] == "evaluation" and e["round"] == r]) for r in rounds]
    for number, evaluation in zip(rounds, evaluated, strict=True):
        evaluation["round"] = number
    clients = [
        {key: _short(line[key]) for key in _CLIENT_KEYS if key in line} for line in lines if line["kind"] == "client"
    ]
    return {
        "federated": method not in NOT_FEDERATED,
        "captions": recipe.data.num_pairs,
        "clients": recipe.scenario.clients,
        "rounds": recipe.federation.rounds,
        "versions": versions(),
        "bytes_sent": sum(line["bytes_sent"] for line in lines if line["kind"] in ("opening", "round")),
        "training_seconds": _short(sum(line["seconds"] for line in lines if line["kind"] == "round")),
        "rounds_evaluated": [{k: v for k, v in e.items() if k != "suites"} for e in evaluated],
        "final": {key: value for key, value in evaluated[-1].items() if key != "round"},
        "client_rounds": clients,
        "round_diagnostics": [
            {"round": line["round"]} | {k: _short(v) for k, v in line["diagnostics"].items()}
            for line in lines
            if line["kind"] == "round" and line["diagnostics"]
        ],
    }


def _mean_evaluation(evaluations: list[Record]) -> Record:
    """One global model's figures, or the mean over local-only clients' own."""
    families = {
        family: _mean([e["group_losses"][family] for e in evaluations]) for family in evaluations[0]["group_losses"]
    }
    worst = max(families, key=lambda family: families[family])
    out: Record = {
        "caption_loss": _mean([e["caption_loss"] for e in evaluations]),
        "worst_family": worst,
        "worst_family_loss": families[worst],
        "family_losses": families,
        "question_accuracy": None,
    }
    out["mean_loss"] = _mean([out["caption_loss"], out["worst_family_loss"]])
    if evaluations[0]["question_accuracy"] is not None:
        out["question_accuracy"] = _mean([e["question_accuracy"] for e in evaluations])
    if evaluations[0].get("suites"):
        out["suites"] = {
            name: _mean_suite([e["suites"][name] for e in evaluations]) for name in evaluations[0]["suites"]
        }
    return out


def _mean_suite(scores: list[Record]) -> Record:
    if len(scores) == 1:
        return {"score": _short(scores[0]["score"]), "detail": _shortened(scores[0].get("detail", {}))}
    return {"score": _mean([score["score"] for score in scores]), "detail": {}}


def _shortened(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _shortened(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_shortened(inner) for inner in value]
    return _short(value)


def _mean(values: list[float]) -> float:
    return float(_short(sum(values) / len(values)))


def _short(value: Any) -> Any:
    """Six digits are more than any figure here is good for, and keep the run files small."""
    return float(f"{value:.6g}") if isinstance(value, float) else value
