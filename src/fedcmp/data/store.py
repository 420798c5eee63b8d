"""The feature store: every image goes through the frozen encoder once, ever.

    folder/<key>/index.json                what the store holds; written last, so a store with an index is complete
    folder/<key>/shard-00000.safetensors   features, memory-mapped (`shards`)
    folder/<key>/bad_pairs.jsonl           the pairs without features, by name
    key = sha256(format version, encoder's fingerprint, source's fingerprint, dtype, max_pixels)

Another encoder, other preprocessing, other pairs or other bytes in an image have another key, hence another folder: a
store is never stale unless files were moved, which is noticed. Building goes shard by shard: what a killed build left
whole is checked and kept, and the result is the same, byte for byte. Two processes that build one store take turns by a
lock on build.lock (which the system frees when its holder dies); the second finds the work done. Ranks that build one
store together (fedcmp.distributed) each make a consecutive share of its shards, and read that stretch of the source
only.

Shapes: n pairs, P patches (visual tokens) an image, D width of the vision encoder.
"""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TypedDict, Unpack

from fedcmp.data.building import Progress, ShardBuilder, turn_to_build
from fedcmp.data.feature_forms import FeatureDtype, FeatureForm, feature_form
from fedcmp.data.features import FeatureSource, ImageEncoder, feature_shape
from fedcmp.data.images import DEFAULT_MAX_PIXELS
from fedcmp.data.opened_store import (
    FORMAT,
    FeatureStore,
    feature_key,
    open_feature_store,
    open_verified_store,
    store_folder,
)
from fedcmp.data.quality import BadPairs, logger
from fedcmp.data.source import PairSource
from fedcmp.distributed import ALONE, Group
from fedcmp.errors import UserError
from fedcmp.files import write_whole

__all__ = [
    "FORMAT",
    "FeatureSource",
    "FeatureStore",
    "StoreOptions",
    "build_feature_store",
    "ensure_feature_store",
    "feature_key",
    "open_feature_store",
    "store_folder",
]

SHARD_BYTES = 256 * 2**20  # of features, if no shard_size is given
MAX_SHARD_ROWS = 8192


def build_feature_store(
    source: PairSource,
    encoder: ImageEncoder,
    folder: Path,
    *,
    feature_dtype: FeatureDtype = "float16",
    shard_size: int | None = None,
    batch_size: int = 64,
    max_bad_fraction: float = 0.05,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    decode_threads: int = 1,
    progress: Progress | None = None,
    group: Group = ALONE,
    call_others: Callable[[int], None] | None = None,
) -> FeatureStore:
    """Compute the features of all pairs; shards that are there already are checked byte for byte and kept.

    Args:
        source: the pairs.
        encoder: the frozen encoder.
        folder: of all stores.
        feature_dtype: the form in which the encoder's output is stored.
        shard_size: pairs a shard, the unit in which a killed build resumes; about 256 MB of features if not given.
        batch_size: pictures a call of the encoder.
        max_bad_fraction: share of the pairs that may be bad, records refused on opening the source included.
        max_pixels: see `images.decode_image`.
        decode_threads: pictures decoded and resized at a time.
        progress: called with (pairs done, pairs in all) after each batch, and at the end; with a group, an
            estimate from this rank's share.
        group: the ranks that make the shards; this is called on rank 0, `sharing.build_share` on the others.
        call_others: called with the shard size when the others are to begin; needed with a group.

    Returns:
        The complete store, opened.

    Raises:
        UserError: too many bad pairs, no usable pair, features too large for the type, or files that cannot be
            written.
        ValueError: the encoder's output has the wrong shape or is not finite; shard_size or batch_size < 1.
    """
    if batch_size < 1 or (shard_size is not None and shard_size < 1):
        raise ValueError(f"batch_size = {batch_size}, shard_size = {shard_size}: must be at least 1")
    key, form = feature_key(encoder, source, feature_dtype, max_pixels=max_pixels), feature_form(feature_dtype)
    target, total = store_folder(folder, key), len(source)
    tell = progress or (lambda _done, _total: None)
    with turn_to_build(target), _ledger(source, max_bad_fraction, target / "bad_pairs.jsonl") as ledger:
        for bad in source.rejected:
            ledger.add(bad)
        shape = feature_shape(encoder)
        size = shard_size or _recorded_shard_size(target) or _default_shard_size(shape, form)
        builder = ShardBuilder(
            source=source,
            encoder=encoder,
            key=key,
            shape=shape,
            form=form,
            batch_size=batch_size,
            max_pixels=max_pixels,
            decode_threads=decode_threads,
            ledger=ledger if group.size == 1 else _ledger(source, max_bad_fraction, None),
            progress=lambda done, _total: tell(min(done * group.size, total), total),
        )
        if group.size > 1:
            assert call_others is not None
            call_others(size)
        shards = builder.shards(target, size, group)
        if group.size > 1:  # a rank's own ledger knows its share only
            ledger.recall(bad for shard in shards for bad in shard.bad)
        if not any(shard.rows for shard in shards):
            raise UserError(f"{source.name}: none of its {total} pictures is usable: {ledger.summary()}")
        index = {
            "format": FORMAT,
            "key": key,
            "encoder": encoder.fingerprint(),
            "source": source.fingerprint(),
            "source_name": source.name,
            "dtype": feature_dtype,
            "max_pixels": max_pixels,
            "num_pairs": total,
            "patches": shape[0],
            "width": shape[1],
            "shard_size": size,
            "shards": [asdict(shard) for shard in shards],
        }
        write_whole(target / "index.json", json.dumps(index, indent=1).encode())
        for other in set(target.glob("shard-*.safetensors")) - {target / shard.file for shard in shards}:
            other.unlink()  # of an earlier build with another shard_size
    return open_feature_store(folder, key)


class StoreOptions(TypedDict, total=False):
    """Options of `build_feature_store`."""

    feature_dtype: FeatureDtype
    shard_size: int | None
    batch_size: int
    max_bad_fraction: float
    max_pixels: int
    decode_threads: int
    progress: Progress | None
    group: Group
    call_others: Callable[[int], None] | None


def ensure_feature_store(
    source: PairSource, encoder: ImageEncoder, folder: Path, **options: Unpack[StoreOptions]
) -> FeatureStore:
    """Open the store of these features, or build what is missing or torn and log why.

    Arguments, result and errors are those of `build_feature_store`. Of a store that is there, every byte is checked the
    first time, and again when a file may have changed since.
    """
    key = feature_key(
        encoder,
        source,
        options.get("feature_dtype", "float16"),
        max_pixels=options.get("max_pixels", DEFAULT_MAX_PIXELS),
    )
    try:
        store = open_verified_store(folder, key)
    except UserError as problem:
        if (store_folder(folder, key) / "index.json").exists():
            logger.warning("%s", problem)
        return build_feature_store(source, encoder, folder, **options)
    with _ledger(source, options.get("max_bad_fraction", 0.05), None) as ledger:
        ledger.recall([*source.rejected, *store.bad])
    return store


def _ledger(source: PairSource, max_bad_fraction: float, log_path: Path | None) -> BadPairs:
    total = len(source) + len(source.rejected)
    return BadPairs(source.name, total=total, max_bad_fraction=max_bad_fraction, log_path=log_path)


def _recorded_shard_size(target: Path) -> int | None:
    """The shard size of a torn store, so that its whole shards can be kept."""
    try:
        return int(json.loads((target / "index.json").read_text(encoding="utf-8"))["shard_size"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _default_shard_size(shape: tuple[int, int], form: FeatureForm) -> int:
    patches, width = shape
    return max(1, min(MAX_SHARD_ROWS, SHARD_BYTES // (patches * form.token_bytes(width))))
