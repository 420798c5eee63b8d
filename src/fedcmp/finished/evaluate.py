"""A run's last trained tensors are evaluated again, on the pairs that were held out or on others."""

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from fedcmp.config import Recipe
from fedcmp.evaluation.captions import caption_metrics, caption_sums, score_captions
from fedcmp.evaluation.questions import question_metrics, read_questions, score_questions
from fedcmp.finished.opening import run_recipe
from fedcmp.model.vlm import VLM
from fedcmp.preparation.loading import Prepared, load_language, load_prepared, new_trainable
from fedcmp.preparation.prepare import prepare
from fedcmp.preparation.sources import Progress
from fedcmp.runs.folder import RunFolder


def evaluate_run(folder: Path, overrides: list[str] | None, *, progress: Progress) -> dict[str, Any]:
    """Caption loss and question accuracy of a run's last projectors, and of the blind LLM.

    One's own data are judged on what was held out when the run began, whatever is overridden.

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
    language = load_language(recipe)
    with tempfile.TemporaryDirectory() as name:
        if recipe.data.format == "world":  # other scenes may be asked for
            data = prepare(recipe, Path(name) / "prepared", progress)
        else:
            data = load_prepared(recipe, _prepared(folder))
            if recipe.evaluation.questions is not None:
                per_kind = recipe.evaluation.questions_per_kind
                questions = read_questions(
                    recipe.evaluation.questions, data.ids, language.reader, per_kind=per_kind, asked=language.asked
                )
                data = dataclasses.replace(data, questions=questions)
        vlm = VLM(language, new_trainable(recipe, data.vision_width, language.width))
        out: dict[str, Any] = {"round": checkpoint.round}
        for who, projector in [*checkpoint.projectors.items(), ("blind", None)]:
            if projector is not None:
                vlm.trainable.load_state_dict(projector)
            out[who] = _figures(vlm, data, recipe, blind=projector is None)
    return out


def _prepared(folder: Path) -> Path:
    """`prepared/` lies in the run's own folder, or beside those of the methods that it was compared with."""
    own = folder / "prepared"
    return own if own.exists() else folder.parent / "prepared"


def _figures(vlm: VLM, data: Prepared, recipe: Recipe, *, blind: bool) -> dict[str, Any]:
    positions = np.arange(min(len(data.evaluation), recipe.evaluation.captions))
    sums = caption_sums(score_captions(vlm, data.evaluation, positions, blind=blind), data.evaluation.groups)
    right = score_questions(vlm, data.evaluation, data.questions, blind=blind)
    return caption_metrics(sums) | question_metrics(data.questions, right) | {"captions": len(positions)}
