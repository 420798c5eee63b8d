"""`model.dtype`: "auto" is settled once, when a run begins, and its recipe names it; what overflow in float16 means."""

from pathlib import Path

import torch

from fedcmp.config import Recipe, read_dumped
from fedcmp.errors import UserError
from fedcmp.model.half_precision import prefers_bfloat16, step_seconds
from fedcmp.preparation.loading import load_language


def with_dtype(error: BaseException, dtype: str) -> BaseException:
    """Return an error about numbers that are not finite with a word about float16, where they overflow early."""
    text = str(error)
    if dtype == "float16" and isinstance(error, UserError) and ("finite" in text or "NaN" in text):
        error.args = (f'{text}; or set model.dtype = "bfloat16": numbers above 65,504 overflow in float16',)
    return error


def settle_dtype(recipe: Recipe, begun: Path | None) -> Recipe:
    """Return the recipe with a dtype in the place of "auto".

    Args:
        recipe: as the user gave it.
        begun: recipe.toml of the run being resumed, whose dtype is kept; None for a new run, for which a
            training step of the LLM is timed in float32 and in bfloat16, in one thread as in a worker.
    """
    if recipe.model.dtype != "auto":
        return recipe
    dtype = read_dumped(begun).model.dtype if begun is not None else _faster(recipe)
    return _in_dtype(recipe, dtype)


def _in_dtype(recipe: Recipe, dtype: str) -> Recipe:
    return recipe.model_copy(update={"model": recipe.model.model_copy(update={"dtype": dtype})})


def _faster(recipe: Recipe) -> str:
    threads = torch.get_num_threads()
    seconds = {}
    torch.set_num_threads(1)
    try:
        for dtype in ("float32", "bfloat16"):
            language = load_language(_in_dtype(recipe, dtype))
            seconds[dtype] = step_seconds(language, recipe.training.batch_size)
            del language
    finally:
        torch.set_num_threads(threads)
    return "bfloat16" if prefers_bfloat16(seconds["float32"], seconds["bfloat16"]) else "float32"
