"""Who holds what, worked out from a recipe: usable pairs, the scenario's division, what is held out.

Shapes: N usable pairs by position, K clients.
"""

from collections import Counter

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from fedcmp.config import Recipe
from fedcmp.data.batches import one_pass_order
from fedcmp.data.features import FeatureSource, decoded
from fedcmp.data.quality import BadPair
from fedcmp.data.store import FeatureStore
from fedcmp.data.writing import write_whole
from fedcmp.errors import UserError
from fedcmp.model.dual_encoder import DualEncoder
from fedcmp.model.vision import VisionEncoder
from fedcmp.scenarios.manifest import Indices
from fedcmp.scenarios.partition import by_label, by_meaning, even_shares
from fedcmp.simulation.sources import Collection, Progress, cache_folder
from fedcmp.world.words import STYLES

_EMBED_BATCH = 128


class Usable:
    """Captions, groups and keys of the usable pairs of some collections, as one list."""

    def __init__(self, collections: list[Collection], features: list[FeatureSource]) -> None:
        self.rows: list[int] = []
        self.captions: list[str] = []
        self.groups: list[str | None] = []
        self.keys: list[str] = []
        self.owner: list[int] = []
        self.bad: list[Counter[str]] = []
        start = 0
        for number, (collection, feature) in enumerate(zip(collections, features, strict=True)):
            source = collection.source
            known = feature.bad if isinstance(feature, FeatureStore) else []
            self.bad.append(Counter(problem.reason for problem in [*source.rejected, *known]))
            usable = feature.indices.tolist() if isinstance(feature, FeatureStore) else range(len(source))
            for index in usable:
                pair = source.pair(index)
                self.rows.append(start + index)
                self.captions.append(pair.caption)
                self.groups.append(pair.group)
                self.keys.append(pair.key)
                self.owner.append(number)
            start += len(source)


def divide(
    recipe: Recipe, collections: list[Collection], read: Usable, encoder: VisionEncoder, progress: Progress
) -> list[Indices]:
    """Per client, the positions of the pairs that it holds, as the recipe's scenario says."""
    scenario, seed = recipe.scenario, recipe.run.seed
    if scenario.kind == "given":
        owner = np.array(read.owner)
        return [np.flatnonzero(owner == number) for number in range(len(collections))]
    if scenario.kind == "iid":
        return even_shares(len(read.rows), scenario.clients, seed=seed)
    if scenario.kind == "family":
        return by_label([group or "all" for group in read.groups], scenario.clients)
    if scenario.kind == "style":
        return by_label([_style(caption) for caption in read.captions], scenario.clients)
    parts = {"image": ["image"], "text": ["text"], "joint": ["image", "text"]}[scenario.kind]
    embedded = _embeddings(recipe, collections[0], read, encoder, progress)
    return by_meaning([embedded[part] for part in parts], scenario.clients, seed=seed)


def _style(caption: str) -> str:
    """A world caption always names its style."""
    words = set(caption.split())
    return next(style for style in STYLES if style in words)


def _embeddings(
    recipe: Recipe, collection: Collection, read: Usable, encoder: VisionEncoder, progress: Progress
) -> dict[str, NDArray[np.float32]]:
    """Picture and caption embeddings of all usable pairs, kept beside the feature stores."""
    name = f"{encoder.fingerprint()[:16]}-{collection.source.fingerprint()[:16]}-{len(read.rows)}.safetensors"
    path = cache_folder(recipe) / "embeddings" / name
    if path.exists():
        kept: dict[str, NDArray[np.float32]] = load(path.read_bytes())
        return kept
    dual = DualEncoder(recipe.model.vision, encoder, device=recipe.model.device)
    images, texts = [], []
    for start in range(0, len(read.rows), _EMBED_BATCH):
        rows = read.rows[start : start + _EMBED_BATCH]
        pictures = []
        for row, picture in decoded(collection.source, rows, max_pixels=recipe.data.max_pixels, threads=1):
            if isinstance(picture, BadPair):
                raise UserError(
                    f"{collection.source.locate(row)}: {picture}; scenarios that cluster pictures need every one: "
                    "keep data.feature_store = true, which leaves bad pictures out beforehand"
                )
            pictures.append(picture)
        images.append(dual.images(pictures))
        texts.append(dual.texts(read.captions[start : start + len(rows)]))
        progress("embedding pairs for the scenario", start + len(rows), len(read.rows))
    out = {
        "image": np.concatenate([part.numpy() for part in images]),
        "text": np.concatenate([part.numpy() for part in texts]),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, save(out))
    return out


def hold_out(recipe: Recipe, holdings: list[Indices], names: list[str]) -> tuple[list[Indices], list[Indices]]:
    """Each client's held-out share, at least one pair; it depends on nothing that can be changed after training."""
    train, judged = [], []
    for name, mine in zip(names, holdings, strict=True):
        count = max(1, round(recipe.data.held_out * len(mine)))
        if len(mine) < 2:
            raise UserError(f"client {name}: holds {len(mine)} usable pairs; it needs more to train and be judged on")
        order = one_pass_order(mine, recipe.run.seed + 1)
        judged.append(order[:count])
        train.append(np.sort(order[count:]))
    return train, judged


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
