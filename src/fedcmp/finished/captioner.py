"""Caption images with a run's model."""

import os
from pathlib import Path

import torch
from PIL import Image

from fedcmp.config import Recipe
from fedcmp.data.images import decode_image, to_rgb
from fedcmp.data.quality import BadPair
from fedcmp.errors import UserError
from fedcmp.finished.export import trained_tensors
from fedcmp.finished.opening import run_recipe
from fedcmp.model.language import LanguageModel
from fedcmp.model.vision import VisionEncoder
from fedcmp.model.vlm import VLM
from fedcmp.preparation.loading import initial_trainable, load_encoder, load_language, new_trainable
from fedcmp.runs.folder import RunFolder

BLIND, INITIAL = "blind", "initial"
REFERENCES = (BLIND, INITIAL)


class Captioner:
    """Caption images with the whole model of a run: frozen encoder, one projector, frozen LLM.

    Args:
        folder: one method's run.
        who: "trained" for the run's projector, "initial" for the one that training started from, "blind" for the
            LLM without the image.
        client: the client whose projector to use, for local-only runs.
        at: of which round the trained projector is: "last", "best" or a number.
        like: another captioner, whose frozen models serve where they are the same.

    Raises:
        UserError: no run, no checkpoint, or no such client.
    """

    def __init__(
        self,
        folder: Path,
        *,
        who: str = "trained",
        client: int | None = None,
        at: str = "last",
        like: "Captioner | None" = None,
    ) -> None:
        recipe = run_recipe(folder)
        tensors = None
        if who == "trained":
            tensors = trained_tensors(folder, recipe, RunFolder(folder).at(at).projectors, client)
        shared = like if like is not None and like.frozen == _frozen(recipe) else None
        self.frozen: dict[str, object] = _frozen(recipe)
        self._blind = who == BLIND
        self.encoder: VisionEncoder = load_encoder(recipe) if shared is None else shared.encoder
        self.language: LanguageModel = load_language(recipe) if shared is None else shared.language
        make = initial_trainable if tensors is None else new_trainable
        trainable = make(recipe, self.encoder.width, self.language.width)
        if tensors is not None:
            trainable.load_state_dict(tensors)
        self._vlm = VLM(self.language, trainable, self.encoder)

    def caption(self, image: Image.Image, *, max_tokens: int) -> str:
        """Return a greedy caption of at most so many tokens."""
        if not self._blind:
            return self._vlm.answer([image], [""], max_new_tokens=max_tokens)[0]
        prompt = torch.tensor(self.language.prompt_ids(""), dtype=torch.long).view(1, -1)
        return self.language.generate(None, prompt, max_new_tokens=max_tokens)[0]


def _frozen(recipe: Recipe) -> dict[str, object]:
    return recipe.model_dump(mode="json", include={"model"})


def open_image(image: "str | os.PathLike[str] | bytes | Image.Image") -> Image.Image:
    """Return an image, however it is given, upright and in RGB.

    Raises:
        UserError: a file that is missing or no image.
    """
    name = "image" if isinstance(image, bytes | Image.Image) else str(image)
    try:
        if isinstance(image, Image.Image):
            return to_rgb(image)
        return decode_image(image if isinstance(image, bytes) else Path(image).read_bytes())
    except OSError as error:
        raise UserError(f"{name}: cannot be read ({error.strerror})") from error
    except BadPair as bad:
        raise UserError(f"{name}: {bad.reason}{f' ({bad.detail})' if bad.detail else ''}; give an image file") from bad
