"""Evaluate a run's trained tensors again, on the pairs that were held out or on others."""

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedcmp.config import Recipe
from fedcmp.evaluation.captions import GroupSums, caption_metrics, caption_sums, merge_sums, score_captions
from fedcmp.evaluation.questions import question_metrics, read_questions, score_questions
from fedcmp.evaluation.shuffled import derangement
from fedcmp.finished.opening import run_recipe
from fedcmp.model.vlm import VLM
from fedcmp.preparation.loading import Prepared, load_language, load_prepared, new_trainable
from fedcmp.preparation.prepare import prepare
from fedcmp.preparation.sources import Progress
from fedcmp.runs.folder import RunFolder

_AT_A_TIME = 512  # captions or questions between two notes of progress


def evaluate_run(folder: Path, overrides: list[str] | None, *, at: str = "last", progress: Progress) -> dict[str, Any]:
    """Return caption loss and question accuracy of a run's projectors, also on shuffled images, and of the blind LLM.

    One's own data are evaluated on what was held out when the run began, whatever is overridden.

    Args:
        folder: one method's run.
        overrides: "evaluation.key=value" texts.
        at: of which round: "last", "best" (the lowest loss on held-out pairs) or a number.
        progress: receives what is prepared and evaluated.

    Returns:
        who ("global", "client-0", ..., "blind") -> figures as in metrics.jsonl, of projectors with shuffled_loss.

    Raises:
        UserError: no run, no such checkpoint, or an override that is not about evaluation.
    """
    recipe = run_recipe(folder, overrides)
    checkpoint = RunFolder(folder).at(at)
    drawn = recipe.data.format == "world"  # then other scenes may be asked for
    with tempfile.TemporaryDirectory() as name:
        place = Path(name) / "prepared"
        data = prepare(recipe, place, progress) if drawn else load_prepared(recipe, _prepared(folder))
        language = load_language(recipe)
        if recipe.evaluation.questions is not None and not drawn:
            per_kind = recipe.evaluation.questions_per_kind
            questions = read_questions(
                recipe.evaluation.questions, data.ids, language.reader, per_kind=per_kind, asked=language.asked
            )
            data = dataclasses.replace(data, questions=questions)
        vlm = VLM(language, new_trainable(recipe, data.vision_width, language.width))
        out: dict[str, Any] = {"round": checkpoint.round}
        models = [*checkpoint.projectors.items(), ("blind", None)]
        passes = len(models) * (_captions(data, recipe) + len(data.questions))
        steps = _Steps(progress, passes + (len(models) - 1) * _captions(data, recipe))
        for who, projector in models:
            if projector is not None:
                vlm.trainable.load_state_dict(projector)
            out[who] = _figures(vlm, data, recipe, steps, blind=projector is None)
            if projector is not None and _captions(data, recipe) > 1:
                sums, _ = _caption_losses(vlm, data, recipe, steps, images=derangement(_captions(data, recipe)))
                out[who]["shuffled_loss"] = caption_metrics(sums)["caption_loss"]
    return out


def _prepared(folder: Path) -> Path:
    """Return `prepared/`: in the run's own folder, or alongside those of the methods that it was compared with."""
    own = folder / "prepared"
    return own if own.exists() else folder.parent / "prepared"


class _Steps:
    """Counts captions and questions as they are scored."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._done, self._total = progress, 0, total

    def add(self, count: int) -> None:
        self._done += count
        self._progress("captions and questions", self._done, self._total)


def _captions(data: Prepared, recipe: Recipe) -> int:
    return min(len(data.evaluation), recipe.evaluation.captions)


def _figures(vlm: VLM, data: Prepared, recipe: Recipe, steps: _Steps, *, blind: bool) -> dict[str, Any]:
    right: list[bool | None] = []
    sums, count = _caption_losses(vlm, data, recipe, steps, blind=blind)
    for start in range(0, len(data.questions), _AT_A_TIME):
        some = data.questions[start : start + _AT_A_TIME]
        right += score_questions(vlm, data.evaluation, some, blind=blind)
        steps.add(len(some))
    return caption_metrics(sums) | question_metrics(data.questions, right) | {"captions": count}


def _caption_losses(
    vlm: VLM,
    data: Prepared,
    recipe: Recipe,
    steps: _Steps,
    *,
    blind: bool = False,
    images: NDArray[np.int64] | None = None,
) -> tuple[GroupSums, int]:
    """Score the held-out captions; returns their sums by group and how many they are."""
    captions, count, sums = _captions(data, recipe), 0, []
    for start in range(0, captions, _AT_A_TIME):
        positions = np.arange(start, min(start + _AT_A_TIME, captions))
        scored = score_captions(vlm, data.evaluation, positions, blind=blind, images=images)
        sums.append(caption_sums(scored, data.evaluation.groups))
        count += len(scored)
        steps.add(len(positions))
    return merge_sums(sums), count
