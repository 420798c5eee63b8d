"""What can be done with a run's folder afterwards: judge its last projector again, export its model."""

import dataclasses
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import numpy as np

from fedcmp.config import Recipe, dump_recipe, override, parse_recipe, read_dumped
from fedcmp.config.methods import NOT_FEDERATED
from fedcmp.errors import UserError
from fedcmp.evaluation.captions import caption_metrics, caption_sums
from fedcmp.evaluation.questions import question_metrics, read_questions, score_questions
from fedcmp.files import write_whole
from fedcmp.finished.model_card import model_card
from fedcmp.model.export import check_export_folder, export_llava
from fedcmp.model.locations import dtype_of
from fedcmp.model.projector import Projector
from fedcmp.model.projector_files import Naming, file_for, projector_file
from fedcmp.model.rewriting import base_folder, rewrite_projector
from fedcmp.model.trainable import trainable_widths
from fedcmp.model.vlm import VLM
from fedcmp.preparation.loading import (
    Prepared,
    load_encoder,
    load_language,
    load_prepared,
    load_text,
    new_trainable,
)
from fedcmp.preparation.prepare import prepare
from fedcmp.preparation.sources import Progress
from fedcmp.runs.folder import RunFolder, Tensors, check_folder

CHANGEABLE = (
    "evaluation",
    "model.device",
    "model.dtype",
    "model.frozen_precision",
    "model.compile",
    "model.logit_rows",
    "run.cache",
)


def run_recipe(folder: Path, overrides: list[str] | None = None) -> Recipe:
    """The recipe that a run was begun with.

    Raises:
        UserError: the folder is not there, is no run, holds several, or an override would change what was trained.
    """
    check_folder(folder)
    path = folder / "recipe.toml"
    if not (folder / "metrics.jsonl").exists():
        inside = sorted(p.parent.name for p in folder.glob("*/metrics.jsonl"))
        if inside:
            raise UserError(f"{folder}: holds several runs; name one of them: {', '.join(inside)}")
        raise UserError(f"{folder}: is not a run's folder (no metrics.jsonl)")
    content = tomllib.loads(dump_recipe(read_dumped(path)))
    for text in overrides or []:
        if not text.startswith(tuple(f"{key}." if "." not in key else key for key in CHANGEABLE)):
            raise UserError(f"-o {text}: cannot be changed after training; only {', '.join(CHANGEABLE)} can")
        override(content, text)
    return parse_recipe(content, str(path))


def judge(folder: Path, overrides: list[str] | None, *, progress: Progress) -> dict[str, Any]:
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
    sums = caption_sums(vlm, data.evaluation, positions, blind=blind)
    right = score_questions(vlm, data.evaluation, data.questions, blind=blind)
    return caption_metrics(sums) | question_metrics(data.questions, right) | {"captions": len(positions)}


def export_run(folder: Path, out: Path, *, client: int | None = None) -> Path:
    """A run's last projector with its frozen parts, as a LLaVA folder with a model card.

    Where both frozen parts are from one LLaVA folder, and its config.json holds for the trained model, only the shard
    that holds the projector is written anew.

    Args:
        folder: one method's run.
        out: a new folder.
        client: of a local-only run, whose projector.

    Raises:
        UserError: no run, no checkpoint, no such client, the folder holds a model, or LLaVA's format cannot hold it.
    """
    check_export_folder(out)
    recipe = run_recipe(folder)
    module = _trained(folder, recipe, client)
    encoder, text, card = load_encoder(recipe, device="cpu"), load_text(recipe), model_card(folder, client=client)
    base, dtype = base_folder(encoder, module, text), dtype_of(recipe.model.dtype)
    if base is not None:
        return rewrite_projector(out, base, encoder, module, text, dtype=dtype, card=card)
    return export_llava(out, encoder, module, text, dtype=dtype, card=card)


def export_projector(folder: Path, out: Path, *, naming: Naming = "huggingface", client: int | None = None) -> Path:
    """A run's last projector alone, in a file of its own; no frozen part is read.

    Args:
        folder: one method's run.
        out: the new file, or a folder for it.
        naming: "huggingface": safetensors; "llava": mm_projector.bin for LLaVA's own code.
        client: of a local-only run, whose projector.

    Returns:
        The file.

    Raises:
        UserError: no run, no checkpoint, no such client, or the file is there already.
    """
    path = file_for(out, naming)
    module = _trained(folder, run_recipe(folder), client)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path.parent}: cannot be made ({error.strerror}); give another folder") from error
    write_whole(path, projector_file(module, naming))
    return path


def _trained(folder: Path, recipe: Recipe, client: int | None) -> Projector:
    tensors = _projector(folder, recipe, client)
    module = new_trainable(recipe, *trainable_widths(recipe.model.projector, tensors))
    module.load_state_dict(tensors)
    return module.as_projector()


def _projector(folder: Path, recipe: Recipe, client: int | None) -> Tensors:
    projectors = RunFolder(folder).last().projectors
    if recipe.run.methods[0] in NOT_FEDERATED and "global" not in projectors:
        name = f"client-{client}"
        if name not in projectors:
            raise UserError(
                f"--client{'' if client is None else f' {client}'}: a local-only run has one projector a client; "
                f"give 0 to {len(projectors) - 1}"
            )
        return projectors[name]
    if client is not None:
        raise UserError(f"--client {client}: {folder} has one projector for all clients; leave --client out")
    return projectors["global"]
