"""What a federation has trained, in the hands of a site: a run's folder in which a checkpoint lies, to export from.

models/RUN/METHOD/recipe.toml, checkpoints/round-0010/      `fedcmp export` takes it as any run's
"""

from pathlib import Path

from fedcmp.config import Recipe, dump_recipe
from fedcmp.deployment.refusals import Declined
from fedcmp.preparation.loading import new_trainable
from fedcmp.runs.folder import Checkpoint, RunFolder
from fedcmp.runs.versions import versions
from fedcmp.wire.naming import Tensors
from fedcmp.wire.site_messages import Handover


def keep_model(recipe: Recipe, request: Handover, folder: Path, *, vision_width: int, text_width: int) -> Path:
    """Write what was handed over; on disk when this returns.

    Args:
        recipe: by which this site works: it names the site's own copies of the frozen parts.
        request: what was trained.
        folder: of the run's models; the method's is in it.
        vision_width: of the frozen features.
        text_width: of the frozen LLM.

    Returns:
        The method's folder.

    Raises:
        Declined: the tensors are not those of this run's trainable.
    """
    check_tensors(recipe, request.state, vision_width=vision_width, text_width=text_width)
    kept = RunFolder(folder / request.method)
    own = recipe.model_copy(update={"run": recipe.run.model_copy(update={"methods": [request.method]})})
    kept.begin(dump_recipe(own, versions=versions()))
    kept.save(Checkpoint(request.round, {"global": request.state}, {}, {"method": request.method}))
    return kept.path


def check_tensors(recipe: Recipe, state: Tensors, *, vision_width: int, text_width: int) -> None:
    """Refuse tensors that the run's trainable does not have.

    Raises:
        Declined: names the tensor.
    """
    own = new_trainable(recipe, vision_width, text_width).tensors()
    if state.keys() != own.keys():
        raise Declined(f"what was handed over has the tensors {', '.join(sorted(state))}, not {', '.join(own)}")
    for name, tensor in own.items():
        found = state[name]
        if found.shape != tensor.shape or found.dtype != tensor.dtype or not bool(found.isfinite().all()):
            raise Declined(f"{name} as handed over: must be {tuple(tensor.shape)} {tensor.dtype} and finite")
