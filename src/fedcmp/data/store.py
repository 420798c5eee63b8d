"""The feature store: every picture goes through the frozen encoder once, ever.

    folder/<key>/index.json                what the store holds; written last, so a store with an index is complete
    folder/<key>/shard-00000.safetensors   features, memory-mapped (`shards`)
    folder/<key>/bad_pairs.jsonl           the pairs without features, by name
    key = sha256(format version, encoder's fingerprint, source's fingerprint, dtype, max_pixels)

Another encoder, other preprocessing or other pairs have another key, hence another folder: a store is never stale
unless files were moved, which is noticed. Building goes shard by shard: what a killed build left whole is checked and
kept, and the result is the same, byte for byte. Two processes that build one store take turns by a lock on
build.lock (which the system frees when its holder dies); the second finds the work done. Ranks that build one store
together (fedcmp.distributed) each make a consecutive share of its shards, and read that stretch of the source only.

Shapes: n pairs, P patches (visual tokens) a picture, D width of the vision encoder.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from fedcmp.data.building import Progress, ShardBuilder, turn_to_build
from fedcmp.data.feature_forms import FeatureDtype, FeatureForm, feature_form, unpack
from fedcmp.data.features import FeatureSource, ImageEncoder, feature_shape
from fedcmp.data.images import DEFAULT_MAX_PIXELS
from fedcmp.data.quality import BadPairs, logger
from fedcmp.data.shards import Shard, TornShard, read_shard
from fedcmp.data.source import PairSource
from fedcmp.distributed import ALONE, Group
from fedcmp.errors import UserError
from fedcmp.files import write_whole

__all__ = [
    "FeatureSource",
    "FeatureStore",
    "StoreOptions",
    "build_feature_store",
    "ensure_feature_store",
    "feature_key",
    "open_feature_store",
    "store_folder",
]

FORMAT = 1  # raised when the files' layout or the decoding of pictures changes
SHARD_BYTES = 256 * 2**20  # of features, if no shard_size is given
MAX_SHARD_ROWS = 8192


def feature_key(
    encoder: ImageEncoder,
    source: PairSource,
    feature_dtype: FeatureDtype = "float16",
    *,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> str:
    """Return the sha256 that names the store of these features."""
    feature_form(feature_dtype)
    parts = [FORMAT, encoder.fingerprint(), source.fingerprint(), feature_dtype, max_pixels]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def store_folder(folder: Path, key: str) -> Path:
    """Return the folder of one store under the folder of all."""
    return folder / key[:32]


class FeatureStore:
    """Features of a source's pairs, mapped from files; a `features.FeatureSource`. Opened by `open_feature_store`.

    Attributes:
        key: names the store.
        dtype: the type that readers get.
        num_pairs: pairs of the source, usable or not.
        patches: P.
        width: D.
        indices: the usable pairs' indices, ascending.
        bad: the other pairs.

    A pickled store opens its files anew, so workers may be handed one.
    """

    def __init__(self, folder: Path, index: dict[str, Any], *, verify: bool):
        """Map the shards that `index` (the content of index.json) lists.

        Raises:
            TornShard: names the shard and what is wrong with it.
        """
        self.folder, self.key = folder, str(index["key"])
        self._form = form = feature_form(index["dtype"])
        self.dtype = form.read
        self.num_pairs, self.patches, self.width = (int(index[name]) for name in ("num_pairs", "patches", "width"))
        self._features: list[Tensor] = []
        self._scales: list[Tensor] = []  # empty where the form has none
        self._shard_of = np.full(self.num_pairs, -1, np.int64)  # -1: bad
        self._row_of = np.zeros(self.num_pairs, np.int64)
        expected = (self.patches, self.width)
        for number, listed in enumerate(map(Shard.from_dict, index["shards"])):
            path = store_folder(folder, self.key) / listed.file
            try:
                found, features, rows, scales = read_shard(path, key=self.key, verify=verify)
                if found != listed:
                    raise TornShard(f"differs from index.json ({found.bytes} bytes, {found.rows} rows)")
                if tuple(features.shape[1:]) != expected or features.dtype != form.stored:
                    raise TornShard(f"holds {tuple(features.shape)} {features.dtype}, not (n, P, D) = (n, {expected})")
                if (scales is None) != (form.largest is None):
                    raise TornShard(f"is {'without' if scales is None else 'with'} scales, unlike {index['dtype']}")
            except TornShard as torn:
                raise TornShard(f"{path}: {torn}") from None
            self._features.append(features if scales is None else features.view(torch.int8))  # rows of any type
            self._scales += [] if scales is None else [scales]
            self._shard_of[rows], self._row_of[rows] = number, np.arange(len(rows))
        self.indices: NDArray[np.int64] = np.flatnonzero(self._shard_of >= 0)
        self.bad = [bad for shard in index["shards"] for bad in Shard.from_dict(shard).bad]
        if len(self.indices) + len(self.bad) != self.num_pairs:
            raise TornShard(f"{store_folder(folder, self.key) / 'index.json'}: its shards do not cover all pairs")

    def __len__(self) -> int:
        return len(self.indices)

    def features(self, indices: ArrayLike) -> Tensor:
        """Return a copy of n usable pairs' features.

        Args:
            indices: (n,) indices into the source.

        Returns:
            (n, P, D) in `dtype`.

        Raises:
            ValueError: a pair is bad or not in the source.
        """
        chosen = self._in_range(indices)
        if not chosen.size:
            return torch.empty(0, self.patches, self.width, dtype=self.dtype)
        shards, rows = self._shard_of[chosen], self._row_of[chosen]
        if shards.min() < 0:
            raise ValueError(f"pair {chosen[shards.argmin()]} is bad and has no features; gather() leaves it out")
        numbers = _picked(self._features, shards, rows)
        if not self._scales:
            return numbers
        return unpack(numbers.view(self._form.stored), _picked(self._scales, shards, rows))

    def gather(self, indices: ArrayLike) -> tuple[NDArray[np.int64], Tensor]:
        """Return those of the indices that are usable, in their order, and their (n, P, D) features."""
        chosen = self._in_range(indices)
        kept = chosen[self._shard_of[chosen] >= 0]
        return kept, self.features(kept)

    def _in_range(self, indices: ArrayLike) -> NDArray[np.int64]:
        chosen = np.asarray(indices, np.int64)
        if chosen.size and (chosen.min() < 0 or chosen.max() >= self.num_pairs):
            raise ValueError(f"pairs {chosen.min()} to {chosen.max()}: the store holds 0 to {self.num_pairs - 1}")
        return chosen

    def __reduce__(self) -> tuple[Callable[[Path, str], "FeatureStore"], tuple[Path, str]]:
        return open_feature_store, (self.folder, self.key)


def _picked(of_shards: list[Tensor], shards: NDArray[np.int64], rows: NDArray[np.int64]) -> Tensor:
    """A copy of the rows, each of its shard."""
    first = int(shards[0])
    if (shards == first).all():
        return of_shards[first].index_select(0, torch.from_numpy(rows))
    return torch.stack([of_shards[shard][row] for shard, row in zip(shards.tolist(), rows.tolist(), strict=True)])


def open_feature_store(folder: Path, key: str, *, verify: bool = False) -> FeatureStore:
    """Open a complete store.

    Args:
        folder: of all stores.
        key: of this one, from `feature_key`.
        verify: read every byte and check it; otherwise sizes, headers and row counts are checked.

    Raises:
        UserError: there is no such store, or it is stale or torn; names the file and the mend.
    """
    path = store_folder(folder, key) / "index.json"
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        if index["format"] != FORMAT or index["key"] != key:
            raise TornShard(f"{path}: stale: it describes other features (key {str(index['key'])[:12]}...)")
        return FeatureStore(folder, index, verify=verify)
    except FileNotFoundError:
        raise UserError(f"{path}: there is no complete feature store here: build it first") from None
    except TornShard as torn:
        problem = str(torn)
    except (OSError, ValueError, KeyError, TypeError) as error:
        problem = f"{path}: damaged ({error})"
    raise UserError(f"{problem}: delete the folder, then it is computed anew")


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

    Arguments, result and errors are those of `build_feature_store`. A store that is there is opened quickly: sizes,
    headers and row counts are checked, its bytes are not.
    """
    key = feature_key(
        encoder,
        source,
        options.get("feature_dtype", "float16"),
        max_pixels=options.get("max_pixels", DEFAULT_MAX_PIXELS),
    )
    try:
        store = open_feature_store(folder, key)
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
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _default_shard_size(shape: tuple[int, int], form: FeatureForm) -> int:
    patches, width = shape
    return max(1, min(MAX_SHARD_ROWS, SHARD_BYTES // (patches * form.token_bytes(width))))
