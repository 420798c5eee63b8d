"""Ask the real benchmarks of what a folder holds: a run, the runs of a comparison, or an exported LLaVA folder."""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from fedcmp.config import Recipe
from fedcmp.errors import UserError
from fedcmp.evaluation.lmms.benchmarks import LMMS_EVAL, prompts_named
from fedcmp.evaluation.lmms.models import exported_model, is_llava_folder
from fedcmp.evaluation.lmms.suite import AskedModel, Outcome, Say, Settings, ask_benchmarks
from fedcmp.finished.export import export_run
from fedcmp.finished.opening import run_recipe
from fedcmp.model.locations import EMBEDDED
from fedcmp.references import is_federated
from fedcmp.runs.folder import Checkpoint, RunFolder, check_folder

Done = Callable[[str, Outcome], None]
FOLDER = "benchmarks"  # of a run: one JSON file per benchmark; of a local-only run one folder per client
_MODEL_KEYS = ("vision", "vision_layer", "vision_strategy", "language", "separator", "prompt", "projector", "dtype")


def benchmark_folder(
    folder: Path,
    settings: Settings,
    say: Say,
    *,
    done: Done | None = None,
    prompts: str | None = None,
    client: int | None = None,
    out: Path | None = None,
) -> dict[str, list[Outcome]]:
    """Ask every model in a folder; results are stored in its `benchmarks/`.

    Args:
        folder: a run's, one that holds several runs, or an exported LLaVA folder.
        settings: what is asked; the form of the prompts is set here.
        say: receives a line for people at every event.
        done: receives a model's name and what became of a benchmark, instead of `say`.
        prompts: one of PROMPTS; None: lmms-eval's, but the world's for the embedded world's LLM.
        client: of a local-only run, only this one; default: all of them.
        out: where results go instead.

    Returns:
        Name of the model, which is its run's place -> what became of each benchmark.

    Raises:
        UserError: nothing to ask, or data or a judge that the settings insist on are missing.
    """
    check_folder(folder)

    def ask(name: str, model: AskedModel, place: Path, own: Settings) -> list[Outcome]:
        return ask_benchmarks(model, place, own, say, None if done is None else lambda outcome: done(name, outcome))

    if is_llava_folder(folder) and not RunFolder(folder).begun:
        settings = replace(settings, prompts=prompts_named(prompts or LMMS_EVAL))
        name = _shown(folder)
        return {name: ask(name, exported_model(folder), out or folder / FOLDER, settings)}
    runs = [folder] if RunFolder(folder).begun else sorted(path.parent for path in folder.glob("*/metrics.jsonl"))
    if not runs:
        raise UserError(f"{folder}: neither a run's folder (no metrics.jsonl) nor an exported LLaVA folder")
    asked = []
    for run in runs:
        place = (out or run / FOLDER) if len(runs) == 1 else (out / run.name if out else run / FOLDER)
        form = prompts or (EMBEDDED if run_recipe(run).model.language == EMBEDDED else LMMS_EVAL)
        asked += [(*found, replace(settings, prompts=prompts_named(form))) for found in _models(run, place, client)]
    outcomes = {}
    for name, model, target, own in asked:
        if len(asked) > 1:
            say(f"{name}:")
        outcomes[name] = ask(name, model, target, own)
    return outcomes


def _shown(place: Path) -> str:
    """Return a path that cannot be taken for the command's own name, which begins its errors."""
    return f".{os.sep}{place}" if len(place.parts) == 1 and not place.is_absolute() else str(place)


def _models(run: Path, place: Path, client: int | None) -> list[tuple[str, AskedModel, Path]]:
    """Return a run's model, or one per client of a local-only run: name, model, folder of results."""
    recipe = run_recipe(run)
    last = RunFolder(run).last()
    projectors = last.projectors
    if is_federated(recipe.run.methods[0]) or "global" in projectors:
        if client is not None:
            raise UserError(f"--client {client}: {run} has one projector for all clients; leave --client out")
        return [(_shown(run), _run_model(run, recipe, last, None), place)]
    asked = [name for name in projectors if client is None or name == f"client-{client}"]
    if not asked:
        raise UserError(f"--client {client}: {run} has one projector per client; give 0 to {len(projectors) - 1}")
    return [
        (f"{_shown(run)}, {name}", _run_model(run, recipe, last, int(name.split("-")[1])), place / name)
        for name in asked
    ]


def _run_model(run: Path, recipe: Recipe, last: Checkpoint, client: int | None) -> AskedModel:
    projector = last.projectors["global" if client is None else f"client-{client}"]
    known = hashlib.sha256(json.dumps(recipe.model.model_dump(mode="json", include=set(_MODEL_KEYS))).encode())
    for name, tensor in sorted(projector.items()):
        known.update(name.encode() + tensor.detach().cpu().contiguous().float().numpy().tobytes())
    digest = known.hexdigest()

    def exported(work: Path) -> Path:
        folder = work / f"model-{digest[:16]}"
        return folder if (folder / "config.json").is_file() else export_run(run, folder, client=client)

    return AskedModel(digest, exported, last.round)
