"""What `prepare` wrote, opened again: by every worker, and by whoever judges a run afterwards."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fedcmp.config import Recipe
from fedcmp.data.features import FeatureSource
from fedcmp.data.prepared import PreparedPairs, TokenTable
from fedcmp.data.store import open_feature_store
from fedcmp.evaluation.questions import QuestionItem, question_ids
from fedcmp.model.language import LanguageModel
from fedcmp.model.locations import EMBEDDED
from fedcmp.model.probe import check_language
from fedcmp.model.projector_files import read_projector, start_from
from fedcmp.model.text_format import TextFormat
from fedcmp.model.trainable import Trainable, create_trainable
from fedcmp.model.vision import VisionEncoder
from fedcmp.preparation.setup_file import read_setup
from fedcmp.preparation.sources import (
    ChainedFeatures,
    Progress,
    cache_folder,
    evaluation_collection,
    frozen_features,
    training_collections,
)
from fedcmp.scenarios.manifest import Manifest


@dataclass(frozen=True)
class Prepared:
    """A run's pairs, opened.

    Attributes:
        train: training pairs.
        evaluation: held-out pairs.
        questions: about the held-out pairs; empty where there are none.
        manifest: who holds which of the training pairs.
        ids: how questions may name the held-out pairs -> their position.
        vision_width: width of the frozen features.
        data_lines: one "data" record per client for metrics.jsonl.
        pairs_lines: one "pairs" record per collection for metrics.jsonl.
    """

    train: PreparedPairs
    evaluation: PreparedPairs
    questions: list[QuestionItem]
    manifest: Manifest
    ids: dict[str, int]
    vision_width: int
    data_lines: list[dict[str, Any]]
    pairs_lines: list[dict[str, Any]]


def chain(features: list[FeatureSource], sizes: list[int]) -> FeatureSource:
    """Several collections' features as one."""
    return ChainedFeatures(features, sizes) if len(features) > 1 else features[0]


def load_encoder(recipe: Recipe, *, device: str | None = None) -> VisionEncoder:
    """The recipe's frozen encoder; `device` instead of model.device."""
    model = recipe.model
    return VisionEncoder(
        model.vision,
        layer=model.vision_layer,
        strategy=model.vision_strategy,
        dtype=model.dtype,
        device=device or model.device,
    )


def load_text(recipe: Recipe) -> TextFormat:
    """The recipe's tokenizer and prompt format."""
    return TextFormat(recipe.model.language, **_text_options(recipe))


def load_language(recipe: Recipe, *, device: str | None = None) -> LanguageModel:
    """The recipe's frozen LLM, as training and judging use it; `device` instead of model.device."""
    model = recipe.model
    return LanguageModel(
        model.language,
        dtype=model.dtype,
        device=device or model.device,
        frozen_precision=model.frozen_precision,
        compile=model.compile,
        logit_rows=model.logit_rows,
        **_text_options(recipe),
    )


def try_language(recipe: Recipe, progress: Progress) -> None:
    """Load the recipe's LLM once and try it out (model/probe.py); the embedded one is known to be well.

    Raises:
        UserError: it cannot be loaded, its numbers are not finite in model.dtype, or it is no causal LM.
    """
    if recipe.model.language == EMBEDDED and recipe.model.dtype != "float16":
        return
    progress("trying out the LLM", 0, 1)
    plain = recipe.model.model_copy(update={"compile": False})
    language = load_language(recipe.model_copy(update={"model": plain}))
    check_language(language)
    del language
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()  # else this process keeps what its workers need
    progress("trying out the LLM", 1, 1)


def _text_options(recipe: Recipe) -> dict[str, Any]:
    return {key: getattr(recipe.model, key) for key in ("separator", "prompt", "instruction")}


def new_trainable(recipe: Recipe, vision_width: int, text_width: int) -> Trainable:
    """What is trained, of the recipe's kind, with fresh weights drawn from the run's seed."""
    model = recipe.model
    return create_trainable(
        model.projector, vision_width, text_width, initialisation=model.initialisation, seed=recipe.run.seed
    )


def initial_trainable(recipe: Recipe, vision_width: int, text_width: int) -> Trainable:
    """What every learner of the run starts from.

    Raises:
        UserError: model.projector_from is none that fits the recipe's encoder and LLM.
    """
    fresh = new_trainable(recipe, vision_width, text_width)
    source = recipe.model.projector_from
    return fresh if source is None else start_from(fresh.as_projector(), read_projector(source))


def load_prepared(recipe: Recipe, folder: Path, *, encoder: VisionEncoder | None = None) -> Prepared:
    """Open what `prepare` wrote: what a worker does. Reads no picture and computes no feature.

    Args:
        recipe: the run.
        folder: `prepared/` of the run.
        encoder: saves loading it again where features are computed in passing.

    Raises:
        UserError: a file of it is missing or not what was written.
    """
    setup = read_setup(folder)

    def silent(_what: str, _done: int, _total: int) -> None:
        return None

    features, judged_features = _opened(recipe, setup, encoder, silent)
    chained = chain(features, setup["sizes"])
    train = _pairs(chained, setup, "train", folder)
    judged = _pairs(judged_features or chained, setup, "evaluation", folder)
    questions = [QuestionItem(**question) for question in setup["questions"]]
    manifest = Manifest.read(folder / "manifest.json")
    names = setup["evaluation"]["names"]
    ids = question_ids([key for key, _ in names], [owner for _, owner in names])
    return Prepared(
        train, judged, questions, manifest, ids, int(setup["vision_width"]), setup["data"], setup.get("pairs", [])
    )


def _opened(
    recipe: Recipe, setup: dict[str, Any], encoder: VisionEncoder | None, progress: Progress
) -> tuple[list[FeatureSource], FeatureSource | None]:
    """Features of each training collection, and of the held-out one if it is apart."""
    if recipe.data.feature_store:
        stores = [open_feature_store(cache_folder(recipe) / "features", key) for key in setup["feature_keys"]]
        count = len(setup["sizes"])
        return list(stores[:count]), stores[count] if len(stores) > count else None
    held_out = evaluation_collection(recipe, progress)
    encoder = encoder or load_encoder(recipe)
    features = [frozen_features(recipe, c, encoder) for c in training_collections(recipe, progress)]
    return features, frozen_features(recipe, held_out, encoder) if held_out else None


def _pairs(features: FeatureSource, setup: dict[str, Any], part: str, folder: Path) -> PreparedPairs:
    rows = np.array(setup[part]["rows"], np.int64)
    tokens = TokenTable.read(folder / f"tokens-{part}.safetensors")
    return PreparedPairs(features, rows, tokens, setup[part]["groups"], int(setup["pad"]))
