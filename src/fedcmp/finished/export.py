"""Export a run's model: as a LLaVA folder with a model card, or its projector alone."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from fedcmp.config import Recipe
from fedcmp.errors import UserError
from fedcmp.files import write_whole
from fedcmp.finished.model_card import model_card
from fedcmp.finished.opening import run_recipe
from fedcmp.model.export import check_export_folder, export_llava
from fedcmp.model.locations import dtype_of
from fedcmp.model.projector import Projector
from fedcmp.model.projector_files import Naming, file_for, projector_file
from fedcmp.model.rewriting import base_folder, rewrite_projector
from fedcmp.model.trainable import trainable_widths
from fedcmp.preparation.loading import load_encoder, load_text, new_trainable
from fedcmp.references import is_federated
from fedcmp.runs.folder import RunFolder, Tensors

_LOG = logging.getLogger(__name__)


def _silent(_line: str) -> None:
    return None


def export_run(
    folder: Path, out: Path, *, client: int | None = None, at: str = "last", say: Callable[[str], None] = _silent
) -> Path:
    """Write a run's projector with its frozen parts, as a LLaVA folder with a model card.

    Where both frozen parts are from one LLaVA folder, and its config.json holds for the trained model, only the shard
    that holds the projector is written anew.

    Args:
        folder: one method's run.
        out: a new folder.
        client: of a local-only run, whose projector.
        at: of which round: "last", "best" (the lowest loss on held-out pairs) or a number.
        say: receives a line before each long step.

    Raises:
        UserError: no run, no such checkpoint or client, the folder holds a model, or LLaVA's format cannot hold it.
    """
    check_export_folder(out)
    recipe = run_recipe(folder)
    module, number = _trained(folder, recipe, client, at, say)
    say(f"loading the vision encoder, {_model_name(recipe.model.vision)} ...")
    encoder, text = load_encoder(recipe, device="cpu"), load_text(recipe)
    card = model_card(folder, client=client, round_number=number, chosen=at == "best")
    base, dtype = base_folder(encoder, module, text), dtype_of(recipe.model.dtype)
    say(f"writing {out} with the LLM, {_model_name(recipe.model.language)} ...")
    if base is not None:
        return rewrite_projector(out, base, encoder, module, text, dtype=dtype, card=card)
    return export_llava(out, encoder, module, text, dtype=dtype, card=card)


def _model_name(name: str) -> str:
    return "the embedded world's" if name == "world" else name


def export_projector(
    folder: Path,
    out: Path,
    *,
    naming: Naming = "huggingface",
    client: int | None = None,
    at: str = "last",
    say: Callable[[str], None] = _silent,
) -> Path:
    """Write a run's projector alone, in a file of its own; no frozen part is read.

    Args:
        folder: one method's run.
        out: the new file, or a folder for it.
        naming: "huggingface": safetensors; "llava": mm_projector.bin for LLaVA's own code.
        client: of a local-only run, whose projector.
        at: of which round; see `export_run`.
        say: receives a line where it is not the last one.

    Returns:
        The file.

    Raises:
        UserError: no run, no such checkpoint, no such client, or the file is there already.
    """
    path = file_for(out, naming)
    module, _ = _trained(folder, run_recipe(folder), client, at, say)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path.parent}: cannot be made ({error.strerror}); give another folder") from error
    write_whole(path, projector_file(module, naming))
    return path


def _trained(
    folder: Path, recipe: Recipe, client: int | None, at: str, say: Callable[[str], None]
) -> tuple[Projector, int]:
    """The projector of one of a run's checkpoints, and after which round that was written."""
    checkpoint = RunFolder(folder).at(at)
    tensors = trained_tensors(folder, recipe, checkpoint.projectors, client)
    module = new_trainable(recipe, *trainable_widths(recipe.model.projector, tensors))
    module.load_state_dict(tensors)
    planned = RunFolder(folder).planned_rounds or recipe.federation.rounds
    if at != "last":
        say(f"round {checkpoint.round} of {planned}")
    elif checkpoint.round < planned:
        message = "%s: is not finished: what is exported is of round %d of %d"
        _LOG.warning(message, folder, checkpoint.round, planned)
    return module.as_projector(), checkpoint.round


def trained_tensors(folder: Path, recipe: Recipe, projectors: Mapping[str, Tensors], client: int | None) -> Tensors:
    """Return what a checkpoint trained: the global tensors, or those of one client that trained alone.

    Raises:
        UserError: `client` names none that there is.
    """
    if not is_federated(recipe.run.methods[0]) and "global" not in projectors:
        name = f"client-{client}"
        if name not in projectors:
            raise UserError(
                f"--client{'' if client is None else f' {client}'}: a local-only run has one projector per client; "
                f"give 0 to {len(projectors) - 1}"
            )
        return projectors[name]
    if client is not None:
        raise UserError(f"--client {client}: {folder} has one projector for all clients; leave --client out")
    return projectors["global"]
