"""Everything that a run's learners need, worked out once and written to `prepared/` for the workers.

manifest.json               who holds what (scenarios/manifest.py)
samples.json, samples/      pictures for the report (samples.py)
tokens-train.safetensors    captions of the training pairs    tokens-evaluation.safetensors    of the held-out ones
setup.json                  rows, groups, questions, sizes
"""

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save
from transformers import PreTrainedTokenizerFast

from fedcmp.config import Recipe
from fedcmp.data.batches import one_pass_order
from fedcmp.data.captions import check_vocabulary, tokenize_captions
from fedcmp.data.features import FeatureSource, decoded
from fedcmp.data.pairs import PairSource
from fedcmp.data.prepared import PreparedPairs, TokenTable
from fedcmp.data.quality import BadPair
from fedcmp.data.store import FeatureStore, open_feature_store
from fedcmp.data.writing import write_whole
from fedcmp.errors import UserError
from fedcmp.evaluation.questions import QuestionItem, read_questions
from fedcmp.model.dual_encoder import DualEncoder
from fedcmp.model.language import LanguageModel
from fedcmp.model.vision import VisionEncoder
from fedcmp.scenarios.manifest import Indices, Manifest
from fedcmp.scenarios.partition import by_label, by_meaning, even_shares, swap_captions
from fedcmp.simulation.samples import choose, keep_pictures
from fedcmp.simulation.sources import (
    ChainedFeatures,
    Collection,
    Progress,
    cache_folder,
    evaluation_collection,
    frozen_features,
    source_fingerprint,
    training_collections,
)

_VOCABULARY_SAMPLE = 5000
_EMBED_BATCH = 128


@dataclass(frozen=True)
class Prepared:
    """A run's pairs, opened.

    Attributes:
        train: training pairs.
        evaluation: held-out pairs.
        questions: about the held-out pairs; empty where there are none.
        manifest: who holds which of the training pairs.
        vision_width: width of the frozen features.
        data_lines: one "data" record a client for metrics.jsonl.
    """

    train: PreparedPairs
    evaluation: PreparedPairs
    questions: list[QuestionItem]
    manifest: Manifest
    vision_width: int
    data_lines: list[dict[str, Any]]


class _Reader:
    """Captions, groups and keys of the usable pairs of some collections, as one list."""

    def __init__(self, collections: list[Collection], features: list[FeatureSource], limit: int | None) -> None:
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
                if limit is not None and len(self.rows) >= limit:
                    break
                pair = source.pair(index)
                self.rows.append(start + index)
                self.captions.append(pair.caption)
                self.groups.append(pair.group)
                self.keys.append(pair.key)
                self.owner.append(number)
            start += len(source)


def prepare(recipe: Recipe, folder: Path, progress: Progress) -> Prepared:
    """Open, check, tokenise, divide; write the result to `folder` for the workers and for a resumed run.

    Args:
        recipe: the run.
        folder: `prepared/` of the run; an earlier content must fit.
        progress: called with what is being done, how much of it, out of how much.

    Returns:
        What `load_prepared` gives the workers.

    Raises:
        UserError: unusable data, or data that changed since the run began.
    """
    language = LanguageModel(recipe.model.language, separator=recipe.model.separator, device="cpu")
    encoder = _encoder(recipe)
    collections = training_collections(recipe, progress)
    features = [frozen_features(recipe, c, encoder, progress) for c in collections]
    every_feature = list(features)
    held_out = evaluation_collection(recipe, progress)

    read = _Reader(collections, features, recipe.data.num_pairs)
    _check_vocabulary(recipe, language.tokenizer, read.captions)
    holdings = _holdings(recipe, collections, read, encoder, progress)
    names = [c.name for c in recipe.data.clients] or [f"client-{k}" for k in range(len(holdings))]
    groups = [group or "all" for group in read.groups]
    if held_out is None:
        holdings, judged = _hold_out(recipe, holdings, names)
        judged = [_usable(held, read, _chained(collections, features)) for held in judged]
        if not any(read.groups):
            for name, held in zip(names, judged, strict=True):
                for position in held.tolist():
                    groups[position] = name
        positions = np.concatenate(judged)
        judged_read, judged_rows, question_file = read, [read.rows[p] for p in positions], recipe.evaluation.questions
    else:
        held_features = frozen_features(recipe, held_out, encoder, progress)
        every_feature.append(held_features)
        judged_read = _Reader([held_out], [held_features], None)
        positions = np.arange(len(judged_read.rows))
        judged_rows, question_file = judged_read.rows, held_out.questions
        groups_judged = [group or "all" for group in judged_read.groups]
    judged_groups = [groups[p] for p in positions.tolist()] if held_out is None else groups_judged

    shares = {int(client): share for client, share in recipe.scenario.wrong_captions.items()}
    manifest = Manifest(names, holdings, swap_captions(holdings, shares, seed=recipe.run.seed))
    _check_parts(recipe, manifest)
    tokens = _tokens(recipe, language, read.captions)
    judged_tokens = _tokens(recipe, language, [judged_read.captions[p] for p in positions.tolist()])
    questions: list[QuestionItem] = []
    if question_file is not None and recipe.evaluation.questions_per_kind:
        keys = {judged_read.keys[p]: i for i, p in enumerate(positions.tolist())}
        questions = read_questions(
            question_file, keys, language.tokenizer, per_kind=recipe.evaluation.questions_per_kind
        )
    setup = {
        "fingerprint": source_fingerprint([*collections, *([held_out] if held_out else [])]),
        "manifest": manifest.hash(),
        "vision_width": encoder.width,
        "pad": language.pad,
        "sizes": [len(c.source) for c in collections],
        "feature_keys": [f.key for f in every_feature if isinstance(f, FeatureStore)],
        "train": {"rows": read.rows, "groups": groups},
        "evaluation": {"rows": judged_rows, "groups": judged_groups},
        "questions": [asdict(question) for question in questions],
        "data": _data_lines(recipe, manifest, read, groups),
    }
    if _write(folder, setup, manifest, tokens, judged_tokens):
        chosen = choose(judged_groups[: recipe.evaluation.captions], recipe.evaluation.samples)
        judged_collections = [held_out] if held_out else collections
        places = [_place(judged_collections, judged_rows[i]) for i in chosen]
        keep_pictures(folder, chosen, places, [judged_groups[i] for i in chosen], max_pixels=recipe.data.max_pixels)
        write_whole(folder / "setup.json", json.dumps(setup).encode())  # last: says that the rest is there
    return load_prepared(recipe, folder, encoder=encoder)


def _encoder(recipe: Recipe) -> VisionEncoder:
    model = recipe.model
    return VisionEncoder(
        model.vision,
        layer=model.vision_layer,
        strategy=model.vision_strategy,
        dtype=model.dtype,
        device=model.device,
    )


def _check_vocabulary(recipe: Recipe, tokenizer: PreTrainedTokenizerFast, captions: list[str]) -> None:
    step = max(1, len(captions) // _VOCABULARY_SAMPLE)
    check_vocabulary(
        tokenizer,
        captions[::step],
        model_name=f"model.language = {recipe.model.language!r}",
        max_unknown_fraction=recipe.data.max_unknown_fraction,
    )


def _tokens(recipe: Recipe, language: LanguageModel, captions: list[str]) -> TokenTable:
    longest = recipe.data.max_caption_tokens
    return TokenTable.of(tokenize_captions(language.tokenizer, captions, max_tokens=longest, eos_token_id=language.end))


def _holdings(
    recipe: Recipe, collections: list[Collection], read: _Reader, encoder: VisionEncoder, progress: Progress
) -> list[Indices]:
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
    from fedcmp.world.words import STYLES

    words = set(caption.split())
    return next(style for style in STYLES if style in words)


def _embeddings(
    recipe: Recipe, collection: Collection, read: _Reader, encoder: VisionEncoder, progress: Progress
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


def _hold_out(recipe: Recipe, holdings: list[Indices], names: list[str]) -> tuple[list[Indices], list[Indices]]:
    """Each client's held-out share, at least one pair and at most evaluation.captions in all."""
    train, judged = [], []
    most = max(1, recipe.evaluation.captions // len(holdings))
    for name, mine in zip(names, holdings, strict=True):
        count = min(most, max(1, round(recipe.data.held_out * len(mine))))
        if len(mine) < 2:
            raise UserError(f"client {name}: holds {len(mine)} usable pairs; it needs more to train and be judged on")
        order = one_pass_order(mine, recipe.run.seed + 1)
        judged.append(np.sort(order[:count]))
        train.append(np.sort(order[count:]))
    return train, judged


def _chained(collections: list[Collection], features: list[FeatureSource]) -> FeatureSource:
    return ChainedFeatures(features, [len(c.source) for c in collections]) if len(features) > 1 else features[0]


def _usable(held: Indices, read: _Reader, features: FeatureSource) -> Indices:
    """Held-out pairs whose pictures can be read; a store knows that already, features in passing only find out here."""
    rows = np.array([read.rows[position] for position in held.tolist()], np.int64)
    if isinstance(features, FeatureStore):
        return held
    kept = [features.gather(rows[i : i + _EMBED_BATCH])[0] for i in range(0, len(rows), _EMBED_BATCH)]
    return held[np.isin(rows, np.concatenate(kept))]


def _check_parts(recipe: Recipe, manifest: Manifest) -> None:
    rounds = recipe.federation.rounds
    for name, mine in zip(manifest.names, manifest.holdings, strict=True):
        if len(mine) < rounds:
            raise UserError(
                f"client {name}: holds {len(mine)} training pairs, fewer than federation.rounds = {rounds}; "
                "each round needs at least one: use fewer rounds, fewer clients or more pairs"
            )


def _data_lines(recipe: Recipe, manifest: Manifest, read: _Reader, groups: list[str]) -> list[dict[str, Any]]:
    lines = []
    for number, (name, mine) in enumerate(zip(manifest.names, manifest.holdings, strict=True)):
        bad = read.bad[number] if recipe.data.clients else read.bad[0] if number == 0 else {}
        counts = Counter(groups[position] for position in mine.tolist())
        lines.append(
            {
                "kind": "data",
                "client": number,
                "client_name": name,
                "num_pairs": len(mine),
                "bad_pairs": dict(bad),
                "wrong_captions": sum(position in manifest.swapped for position in mine.tolist()),
                "groups": dict(sorted(counts.items())),
            }
        )
    return lines


def _place(collections: list[Collection], row: int) -> tuple[PairSource, int]:
    for collection in collections:
        if row < len(collection.source):
            return collection.source, row
        row -= len(collection.source)
    raise IndexError(row)


def _write(folder: Path, setup: dict[str, Any], manifest: Manifest, tokens: TokenTable, judged: TokenTable) -> bool:
    """Everything but setup.json; False where all of it is there already."""
    path = folder / "setup.json"
    if path.exists():
        if json.loads(path.read_text(encoding="utf-8")) != json.loads(json.dumps(setup)):
            raise UserError(f"{path}: the data or their division changed since the run began; start with --overwrite")
        return False
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "manifest.json", json.dumps(manifest.content()).encode())
    tokens.write(folder / "tokens-train.safetensors")
    judged.write(folder / "tokens-evaluation.safetensors")
    return True


def load_prepared(recipe: Recipe, folder: Path, *, encoder: VisionEncoder | None = None) -> Prepared:
    """Open what `prepare` wrote: what a worker does. Reads no picture and computes no feature.

    Args:
        recipe: the run.
        folder: `prepared/` of the run.
        encoder: saves loading it again where features are computed in passing.
    """
    setup = json.loads((folder / "setup.json").read_text(encoding="utf-8"))

    def silent(_what: str, _done: int, _total: int) -> None:
        return None

    features, judged_features = _opened(recipe, setup, encoder, silent)
    chained = ChainedFeatures(features, setup["sizes"]) if len(features) > 1 else features[0]
    train = _pairs(chained, setup, "train", folder)
    judged = _pairs(judged_features or chained, setup, "evaluation", folder)
    questions = [QuestionItem(**question) for question in setup["questions"]]
    manifest = Manifest.read(folder / "manifest.json")
    return Prepared(train, judged, questions, manifest, int(setup["vision_width"]), setup["data"])


def _opened(
    recipe: Recipe, setup: dict[str, Any], encoder: VisionEncoder | None, progress: Progress
) -> tuple[list[FeatureSource], FeatureSource | None]:
    """Features of each training collection, and of the held-out one if it is apart."""
    if recipe.data.feature_store:
        stores = [open_feature_store(cache_folder(recipe) / "features", key) for key in setup["feature_keys"]]
        count = len(setup["sizes"])
        return list(stores[:count]), stores[count] if len(stores) > count else None
    held_out = evaluation_collection(recipe, progress)
    encoder = encoder or _encoder(recipe)
    features = [frozen_features(recipe, c, encoder) for c in training_collections(recipe, progress)]
    return features, frozen_features(recipe, held_out, encoder) if held_out else None


def _pairs(features: FeatureSource, setup: dict[str, Any], part: str, folder: Path) -> PreparedPairs:
    rows = np.array(setup[part]["rows"], np.int64)
    tokens = TokenTable.read(folder / f"tokens-{part}.safetensors")
    return PreparedPairs(features, rows, tokens, setup[part]["groups"], int(setup["pad"]))
