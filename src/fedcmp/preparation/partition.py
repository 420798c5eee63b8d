"""The partition that a recipe asks for: usable pairs, which client holds which, what is held out.

A partition by meaning is kept in the cache, for a study partitions the same pairs again and again:

    embeddings/NAME.safetensors                                  image, text (N, E)
    embeddings/NAME-KIND-CLIENTS-SEED-revision-R.safetensors     labels (N,), trace (steps,): cross only
    NAME = dual encoder, pairs and which of them are usable, 16 hexadecimal digits each, and CAPTION_REVISION

Shapes: N usable pairs by position, E embedding width, K clients.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray

from fedcmp.config import Recipe
from fedcmp.data.accounts import Account, account_of
from fedcmp.data.batches import one_pass_order
from fedcmp.data.features import FeatureSource, decoded
from fedcmp.data.quality import BadPair
from fedcmp.data.store import FeatureStore
from fedcmp.errors import UserError, counted
from fedcmp.model.dual_encoder import DualEncoder
from fedcmp.model.vision import VisionEncoder
from fedcmp.preparation.built_partition import built_partition
from fedcmp.preparation.sources import Collection, Progress, cache_folder
from fedcmp.scenarios.clustering.clusters import cross_clusters
from fedcmp.scenarios.embeddings.long_captions import log_long_captions, sample_of
from fedcmp.scenarios.manifest import Indices
from fedcmp.scenarios.partition import by_label, by_meaning, by_number, even_shares
from fedcmp.wire.files import read_message, write_message
from fedcmp.world.worlds import WORLDS

_EMBED_BATCH = 128
CAPTION_REVISION = 2  # raised whenever captions are embedded otherwise
PARTITION_REVISION = 2  # raised whenever a scenario partitions the same embeddings otherwise
MEANINGS = {"image": ("image",), "text": ("text",), "joint": ("image", "text"), "cross": ("image", "text")}


class Usable:
    """Captions, groups and keys of the usable pairs of some collections, as one list."""

    def __init__(self, collections: list[Collection], features: list[FeatureSource]) -> None:
        self.rows: list[int] = []
        self.captions: list[str] = []
        self.groups: list[str | None] = []
        self.keys: list[str] = []
        self.owner: list[int] = []
        self.accounts: list[Account] = []
        start = 0
        for number, (collection, feature) in enumerate(zip(collections, features, strict=True)):
            source = collection.source
            known = feature.bad if isinstance(feature, FeatureStore) else []
            self.accounts.append(account_of(source, known))
            usable = feature.indices.tolist() if isinstance(feature, FeatureStore) else range(len(source))
            for index in usable:
                try:
                    pair = source.pair(index)
                except BadPair as bad:
                    raise UserError(f"{source.locate(index)}: {bad}: start again, and leave the files alone") from None
                self.rows.append(start + index)
                self.captions.append(pair.caption)
                self.groups.append(pair.group)
                self.keys.append(pair.key)
                self.owner.append(number)
            start += len(source)


def check_comparable(recipe: Recipe, encoder: VisionEncoder) -> None:
    """Try out the encoder that pairs will be compared by, where the scenario compares them.

    Raises:
        UserError: it has no text half, or its parts do not fit together.
    """
    if recipe.scenario.kind in MEANINGS:
        _ = DualEncoder(recipe.model.vision, encoder, device=recipe.model.device).width


def partition_pairs(
    recipe: Recipe, collections: list[Collection], read: Usable, encoder: VisionEncoder, progress: Progress
) -> list[Indices]:
    """Partition the pairs as the recipe's scenario says; return each client's holdings, positions among the usable."""
    scenario, seed = recipe.scenario, recipe.run.seed
    if scenario.kind == "given":
        owner = np.array(read.owner)
        return [np.flatnonzero(owner == number) for number in range(len(collections))]
    if scenario.kind == "manifest":
        return built_partition(recipe, collections[0].source, read.keys).holdings
    if scenario.kind == "iid":
        return even_shares(len(read.rows), scenario.clients, seed=seed)
    if scenario.kind == "family":
        return by_label([group or "all" for group in read.groups], scenario.clients)
    if scenario.kind == "style":
        return by_label(styles_of(recipe, read.captions), scenario.clients)
    return by_number(clusters(recipe, collections[0], read, encoder, progress).labels, scenario.clients)


def styles_of(recipe: Recipe, captions: Sequence[str]) -> list[str]:
    """The styles of captions of the recipe's world, which always name them."""
    return [WORLDS[recipe.data.world].style_of(caption) for caption in captions]


@dataclass(frozen=True)
class Clusters:
    """A partition by meaning.

    Attributes:
        labels: (N,) the client of each usable pair.
        trace: scenario cross: the objective after each step (scenarios/clustering); else empty.
    """

    labels: NDArray[np.int64]
    trace: NDArray[np.float64]


def clusters(
    recipe: Recipe, collection: Collection, read: Usable, encoder: VisionEncoder, progress: Progress
) -> Clusters:
    """Return the partition of one collection by image, text, joint or cross, from the cache if it is there."""
    kind, count, seed = recipe.scenario.kind, recipe.scenario.clients, recipe.run.seed
    dual = DualEncoder(recipe.model.vision, encoder, device=recipe.model.device)
    name = f"{_name(collection, read.rows, dual)}-{kind}-{count}-{seed}-revision-{PARTITION_REVISION}"
    path = _folder(recipe) / f"{name}.safetensors"
    kept = _kept(path)
    if kept is None:
        embedded = embeddings(recipe, [collection], read, encoder, progress, dual=dual)
        parts = [embedded[part] for part in MEANINGS[kind]]
        if kind == "cross":
            found = cross_clusters(parts[0], parts[1], count, seed=seed)
            labels, trace = found.labels, np.array(found.trace)
        else:
            labels, trace = np.empty(len(read.rows), np.int64), np.empty(0)
            for client, mine in enumerate(by_meaning(parts, count, seed=seed)):
                labels[mine] = client
        kept = {"labels": labels, "trace": trace}
        _keep(path, kept)
    return Clusters(kept["labels"], kept["trace"])


def embeddings(
    recipe: Recipe,
    collections: list[Collection],
    read: Usable,
    encoder: VisionEncoder,
    progress: Progress,
    *,
    dual: DualEncoder | None = None,
) -> dict[str, NDArray[np.float32]]:
    """Picture and caption embeddings of all usable pairs: image and text, (N, E) unit vectors each.

    Args:
        recipe: names the encoder and the cache.
        collections: that `read` was made of.
        read: the usable pairs.
        encoder: the image half of the dual encoder.
        progress: called while pairs are embedded.
        dual: the dual encoder, where it is loaded already.

    Raises:
        UserError: the encoder has no text half; an image cannot be read.
    """
    dual = dual or DualEncoder(recipe.model.vision, encoder, device=recipe.model.device)
    rows, owner = np.array(read.rows, np.int64), np.array(read.owner, np.int64)
    parts, start = [], 0
    for number, collection in enumerate(collections):
        positions = np.flatnonzero(owner == number)
        mine = (rows[positions] - start).tolist()
        captions = [read.captions[position] for position in positions.tolist()]
        path = _folder(recipe) / f"{_name(collection, mine, dual)}.safetensors"
        with FileLock(path.with_name(f".{path.name}.lock")):  # two runs may begin at once
            kept = _kept(path)
            if kept is None:
                looked_at = [captions[at] for at in sample_of(len(captions))]
                log_long_captions(dual, looked_at, collection.source.name)
                kept = _embedded(recipe, collection, mine, captions, encoder, dual, progress)
                _keep(path, kept)
        parts.append(kept)
        start += len(collection.source)
    return {name: np.concatenate([part[name] for part in parts]) for name in ("image", "text")}


def _folder(recipe: Recipe) -> Path:
    folder = cache_folder(recipe) / "embeddings"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _name(collection: Collection, rows: list[int], dual: DualEncoder) -> str:
    usable = hashlib.sha256(np.array(rows, np.int64).tobytes()).hexdigest()
    keys = (dual.fingerprint(), collection.source.fingerprint(), usable)
    return "-".join([*(key[:16] for key in keys), str(CAPTION_REVISION)])


def _kept(path: Path) -> dict[str, Any] | None:
    """What a file of the cache holds; None where there is none, or a damaged one, which is then written anew."""
    try:
        _, tensors = read_message(path)
    except ValueError:
        return None
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def _keep(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    write_message(path, {}, {name: torch.from_numpy(array) for name, array in arrays.items()})


def _embedded(
    recipe: Recipe,
    collection: Collection,
    rows: list[int],
    captions: list[str],
    encoder: VisionEncoder,
    dual: DualEncoder,
    progress: Progress,
) -> dict[str, NDArray[np.float32]]:
    """Embeddings of the pairs at `rows` of one collection, computed."""
    images, texts = [], []
    for start in range(0, len(rows), _EMBED_BATCH):
        batch = rows[start : start + _EMBED_BATCH]
        pictures = []
        pictures_of = decoded(collection.source, batch, max_pixels=recipe.data.max_pixels, resize=encoder.resized)
        for row, picture in pictures_of:
            if isinstance(picture, BadPair):
                raise UserError(
                    f"{collection.source.locate(row)}: {picture}; scenarios that cluster images need every one: "
                    "keep data.feature_store = true, which leaves bad images out beforehand"
                )
            pictures.append(picture)
        images.append(dual.images(pictures))
        texts.append(dual.texts(captions[start : start + len(batch)]))
        progress("embedding pairs for the scenario", start + len(batch), len(rows))
    return {
        "image": np.concatenate([part.numpy() for part in images]),
        "text": np.concatenate([part.numpy() for part in texts]),
    }


def hold_out(
    recipe: Recipe, holdings: list[Indices], names: list[str], first_position: int = 0
) -> tuple[list[Indices], list[Indices]]:
    """Return each client's training pairs and its held-out share, at least one pair.

    The share depends on nothing that can be changed after training. For `evaluation.split = "validation"`, it is set
    aside unseen, and as many of the other pairs are judged by instead. `first_position` is explained by `prepare`.
    """
    train, judged = [], []
    shares = 2 if recipe.evaluation.split == "validation" else 1
    for name, mine in zip(names, holdings, strict=True):
        count = max(1, round(recipe.data.held_out * len(mine)))
        if len(mine) <= shares * count:
            held = counted(len(mine), "usable pair")
            raise UserError(f"client {name}: holds {held}; it needs more to train and be judged on")
        order = one_pass_order(mine + first_position, recipe.run.seed + 1) - first_position
        judged.append(order[(shares - 1) * count : shares * count])
        train.append(np.sort(order[shares * count :]))
    return train, judged


def used_share(recipe: Recipe, holdings: list[Indices], first_position: int = 0) -> list[Indices]:
    """Return data.train_share of each client's training pairs, at least one, chosen by the run's seed."""
    counts = [max(1, round(recipe.data.train_share * len(mine))) for mine in holdings]
    orders = [one_pass_order(mine + first_position, recipe.run.seed + 2) - first_position for mine in holdings]
    return [np.sort(order[:count]) for order, count in zip(orders, counts, strict=True)]


def in_turn(judged: list[Indices]) -> list[int]:
    """One held-out pair of each client in turn, so that any first part is about all of them."""
    longest = max(map(len, judged))
    return [int(held[i]) for i in range(longest) for held in judged if i < len(held)]


def readable(held: Indices, read: Usable, features: FeatureSource) -> Indices:
    """Held-out pairs whose pictures can be read; a store knows that already, features in passing only find out here."""
    rows = np.array([read.rows[position] for position in held.tolist()], np.int64)
    if isinstance(features, FeatureStore):
        return held
    kept = [features.gather(rows[i : i + _EMBED_BATCH])[0] for i in range(0, len(rows), _EMBED_BATCH)]
    return held[np.isin(rows, np.concatenate(kept))]
