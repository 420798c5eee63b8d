"""What can be done with a run's folder afterwards: judge its last projector again, export its model."""

import tomllib
from pathlib import Path
from typing import Any

import numpy as np

from fedcmp.config import NOT_FEDERATED, Recipe, override, parse_recipe
from fedcmp.errors import UserError
from fedcmp.evaluation.captions import caption_metrics, caption_sums
from fedcmp.evaluation.questions import accuracy_by_kind, score_questions
from fedcmp.model.export import export_llava
from fedcmp.model.language import LanguageModel
from fedcmp.model.vision import VisionEncoder
from fedcmp.model.vlm import VLM
from fedcmp.runs import RunFolder, Tensors
from fedcmp.simulation.engine import new_projector
from fedcmp.simulation.prepare import prepare
from fedcmp.simulation.sources import Progress

CHANGEABLE = ("evaluation", "model.device", "model.dtype", "run.cache")


def run_recipe(folder: Path, overrides: list[str] | None = None) -> Recipe:
    """The recipe that a run was begun with.

    Raises:
        UserError: the folder is no run, holds several, or an override would change what was trained.
    """
    path = folder / "recipe.toml"
    if not (folder / "metrics.jsonl").exists():
        inside = sorted(p.parent.name for p in folder.glob("*/metrics.jsonl"))
        if inside:
            raise UserError(f"{folder}: holds several runs; name one of them: {', '.join(inside)}")
        raise UserError(f"{folder}: is not a run's folder (no metrics.jsonl)")
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    content.pop("versions", None)
    for text in overrides or []:
        if not text.startswith(tuple(f"{key}." if "." not in key else key for key in CHANGEABLE)):
            raise UserError(f"-o {text}: cannot be changed after training; only {', '.join(CHANGEABLE)} can")
        override(content, text)
    return parse_recipe(content, str(path))


def judge(folder: Path, overrides: list[str] | None, *, progress: Progress) -> dict[str, Any]:
    """Caption loss and question accuracy of a run's last projectors, and of the blind LLM.

    Args:
        folder: one method's run.
        overrides: "evaluation.key=value" texts.
        progress: receives what is prepared.

    Returns:
        who ("global", "client-0", ..., "blind") -> figures as in metrics.jsonl.

    Raises:
        UserError: no run, no checkpoint, or an override that is not about evaluation.
    """
    recipe = run_recipe(folder, overrides)
    checkpoint = RunFolder(folder).last()
    data = prepare(recipe, folder / "evaluations" / _name(recipe), progress)
    model = recipe.model
    language = LanguageModel(model.language, separator=model.separator, dtype=model.dtype, device=model.device)
    vlm = VLM(language, new_projector(recipe, data.vision_width, language.width))
    positions = np.arange(min(len(data.evaluation), recipe.evaluation.captions))
    out: dict[str, Any] = {"round": checkpoint.round}
    for who, projector in [*checkpoint.projectors.items(), ("blind", None)]:
        if projector is not None:
            vlm.projector.load_state_dict(projector)
        sums = caption_sums(vlm, data.evaluation, positions, blind=projector is None)
        right = score_questions(vlm, data.evaluation, data.questions, blind=projector is None)
        kinds = accuracy_by_kind(data.questions, right)
        out[who] = caption_metrics(sums) | {
            "question_accuracy": sum(kinds.values()) / len(kinds) if kinds else None,
            "question_accuracy_by_kind": kinds or None,
            "captions": len(positions),
            "questions": len(data.questions),
        }
    return out


def _name(recipe: Recipe) -> str:
    evaluation = recipe.evaluation
    return f"{evaluation.split}-{evaluation.captions}-{evaluation.questions_per_kind}"


def export_run(folder: Path, out: Path, *, client: int | None = None) -> Path:
    """A run's last projector with its frozen parts, as a LLaVA folder.

    Args:
        folder: one method's run.
        out: a new folder.
        client: of a local-only run, whose projector.

    Raises:
        UserError: no run, no checkpoint, no such client, or the folder holds a model.
    """
    recipe = run_recipe(folder)
    projector = _projector(folder, recipe, client)
    model = recipe.model
    encoder = VisionEncoder(model.vision, layer=model.vision_layer, strategy=model.vision_strategy, dtype=model.dtype)
    language = LanguageModel(model.language, separator=model.separator, dtype=model.dtype, device="cpu")
    module = new_projector(recipe, encoder.width, language.width)
    module.load_state_dict(projector)
    return export_llava(out, encoder, module, language)


def _projector(folder: Path, recipe: Recipe, client: int | None) -> Tensors:
    projectors = RunFolder(folder).last().projectors
    if recipe.run.methods[0] in NOT_FEDERATED and "global" not in projectors:
        name = f"client-{client}"
        if name not in projectors:
            raise UserError(
                f"--client {client}: a local-only run has one projector a client; give 0 to {len(projectors) - 1}"
            )
        return projectors[name]
    if client is not None:
        raise UserError(f"--client {client}: {folder} has one projector for all clients; leave --client out")
    return projectors["global"]
