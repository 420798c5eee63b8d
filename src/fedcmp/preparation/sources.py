"""From a recipe's data section to opened pairs: the embedded world as files, or the user's own."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from fedcmp.config import Recipe
from fedcmp.data.contents import CONTENTS, user_cache_folder
from fedcmp.data.feature_forms import FeatureDtype
from fedcmp.data.features import FeatureSource, OnTheFlyFeatures
from fedcmp.data.pairs import PairSource, first_pairs, open_pairs
from fedcmp.data.quality import BadPairs
from fedcmp.data.store import ensure_feature_store
from fedcmp.distributed import ALONE, Group, ranks_here
from fedcmp.model.vision import VisionEncoder
from fedcmp.preparation.world_pairs import Progress, world_pairs

__all__ = [
    "HELD_OUT",
    "ChainedFeatures",
    "Collection",
    "Progress",
    "StoredAs",
    "cache_folder",
    "check_refused",
    "evaluation_collection",
    "frozen_features",
    "held_out_scenes",
    "picture_threads",
    "read_contents",
    "source_fingerprint",
    "store_options",
    "training_collections",
    "user_cache_folder",
]

HELD_OUT = -1  # the number of the collection that is evaluated only
_PICTURE_THREADS = 8  # for one GPU


def cache_folder(recipe: Recipe) -> Path:
    """Where features and exported worlds are kept: run.cache, $FEDCMP_CACHE, or the user's cache folder."""
    if recipe.run.cache is not None:
        return recipe.run.cache.expanduser()
    return user_cache_folder()


@dataclass(frozen=True)
class Collection:
    """Pairs that were opened together.

    Attributes:
        name: of the client that brought them, or of the split.
        source: the pairs.
        questions: a JSONL file about them, or None.
    """

    name: str
    source: PairSource
    questions: Path | None = None


def training_collections(recipe: Recipe, progress: Progress) -> list[Collection]:
    """The training pairs: one collection, or one a client where clients bring their own."""
    data, contents = recipe.data, cache_folder(recipe) / CONTENTS
    if data.format == "world":
        source, questions = world_pairs(cache_folder(recipe), "train", data.num_pairs or 0, progress, world=data.world)
        return [Collection("train", source, questions)]
    if data.clients:
        return [
            Collection(c.name, open_pairs(data.format, c.pairs, c.images, owner=f"client {c.name}", contents=contents))
            for c in data.clients
        ]
    assert data.pairs is not None  # the recipe's own check
    source = open_pairs(data.format, data.pairs, data.images, contents=contents)
    return [Collection("pairs", first_pairs(source, data.num_pairs))]


def evaluation_collection(recipe: Recipe, progress: Progress) -> Collection | None:
    """The embedded world's held-out scenes; one's own data are held out from the training collections instead."""
    if recipe.data.format != "world":
        return None
    split = recipe.evaluation.split
    drawn = world_pairs(cache_folder(recipe), split, held_out_scenes(recipe), progress, world=recipe.data.world)
    return Collection(split, *drawn)


def held_out_scenes(recipe: Recipe) -> int:
    """How many scenes of the embedded world are held out.

    Questions need more pictures than the caption loss: rare answers must be there often enough.
    """
    return max(recipe.evaluation.captions, 24 * recipe.evaluation.questions_per_kind)


def check_refused(recipe: Recipe, collections: list[Collection]) -> None:
    """Stop where too many records were refused on opening, before any image is read.

    Raises:
        UserError: names counts, places and data.max_bad_fraction.
    """
    for collection in collections:
        source = collection.source
        total = len(source) + len(source.rejected)
        BadPairs(source.name, total=total, max_bad_fraction=recipe.data.max_bad_fraction).recall(source.rejected)


def read_contents(collections: list[Collection], progress: Progress) -> None:
    """Read all images once, or know them again: the names of all that is cached depend on them."""
    for collection in collections:
        what = f"reading the images of {collection.name}"
        collection.source.fingerprint(partial(progress, what))


def frozen_features(
    recipe: Recipe,
    collection: Collection,
    encoder: VisionEncoder,
    progress: Progress | None = None,
    *,
    group: Group = ALONE,
    call_others: Callable[[int], None] | None = None,
) -> FeatureSource:
    """The collection's features, stored or computed in passing, as the recipe says.

    Args:
        recipe: says where and how.
        collection: the pairs.
        encoder: the frozen encoder.
        progress: called while features are computed.
        group: the ranks that compute them.
        call_others: sets the other ranks to work; see `build_feature_store`.
    """
    data = recipe.data
    if not data.feature_store:
        source = collection.source
        total = len(source) + len(source.rejected)
        ledger = BadPairs(source.name, total=total, max_bad_fraction=data.max_bad_fraction)
        ledger.recall(source.rejected)
        return OnTheFlyFeatures(
            source,
            encoder,
            feature_dtype=data.feature_dtype,
            bad_pairs=ledger,
            max_pixels=data.max_pixels,
            decode_threads=picture_threads(encoder.device),
        )
    return ensure_feature_store(
        collection.source,
        encoder,
        cache_folder(recipe) / "features",
        **store_options(recipe, encoder),
        group=group,
        call_others=call_others,
        progress=None if progress is None else lambda d, t: progress(f"frozen features of {collection.name}", d, t),
    )


class StoredAs(TypedDict):
    """What a recipe says of its feature stores."""

    feature_dtype: FeatureDtype
    max_bad_fraction: float
    max_pixels: int
    decode_threads: int


def picture_threads(device: torch.device) -> int:
    """How many pictures are decoded and resized at a time: beside a CPU's encoder one, for a GPU's what it can take."""
    return 1 if device.type == "cpu" else max(1, min(_PICTURE_THREADS, (os.cpu_count() or 1) // ranks_here()))


def store_options(recipe: Recipe, encoder: VisionEncoder) -> StoredAs:
    """How the recipe's features are stored."""
    data = recipe.data
    return {
        "feature_dtype": data.feature_dtype,
        "max_bad_fraction": data.max_bad_fraction,
        "max_pixels": data.max_pixels,
        "decode_threads": picture_threads(encoder.device),
    }


class ChainedFeatures:
    """Several feature sources end to end: index i of the second is offset by the first's number of pairs."""

    def __init__(self, parts: list[FeatureSource], sizes: list[int]) -> None:
        self.parts, self.dtype = parts, parts[0].dtype
        self._starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)

    def features(self, indices: ArrayLike) -> Tensor:
        """(n, P, V) features of n usable pairs; ValueError for a bad one."""
        chosen = np.asarray(indices, np.int64)
        kept, features = self.gather(chosen)
        if len(kept) < len(chosen):
            raise ValueError(f"pair {np.setdiff1d(chosen, kept)[0]} is bad and has no features")
        return features

    def gather(self, indices: ArrayLike) -> tuple[NDArray[np.int64], Tensor]:
        """The usable ones of the indices, in their order, and their (n, P, V) features."""
        chosen = np.asarray(indices, np.int64)
        owner = np.searchsorted(self._starts, chosen, side="right") - 1
        if len(chosen) and (owner == owner[0]).all():  # the usual case: a client's batch lies in its own collection
            kept, features = self.parts[owner[0]].gather(chosen - self._starts[owner[0]])
            return kept + self._starts[owner[0]], features
        rows: dict[int, Tensor] = {}
        for number in np.unique(owner).tolist():
            kept, features = self.parts[number].gather(chosen[owner == number] - self._starts[number])
            rows.update(zip((kept + self._starts[number]).tolist(), features, strict=True))
        usable = [index for index in chosen.tolist() if index in rows]
        if not usable:
            return self.parts[0].gather(np.empty(0, np.int64))
        return np.array(usable, np.int64), torch.stack([rows[index] for index in usable])


def source_fingerprint(collections: list[Collection]) -> str:
    """sha256 over all collections' fingerprints."""
    return hashlib.sha256("".join(c.source.fingerprint() for c in collections).encode()).hexdigest()
