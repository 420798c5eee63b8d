"""A complete feature store, opened: mapped files, every row of which is held against its checksum when it is read.

    folder/<key>/verified.json    which shards were read through and found whole, by what tells a file from itself after
                                  a change (`contents`); those that differ are read through when the store is opened

Shapes: n pairs, P patches (visual tokens) an image, D width of the vision encoder.
"""

import hashlib
import json
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from fedcmp.data.contents import YOUNG, file_identity
from fedcmp.data.feature_forms import FeatureDtype, feature_form, unpack
from fedcmp.data.features import ImageEncoder
from fedcmp.data.images import DEFAULT_MAX_PIXELS
from fedcmp.data.shards import MappedShard, Shard, TornShard, read_shard, row_checks
from fedcmp.data.source import PairSource
from fedcmp.errors import UserError
from fedcmp.files import write_whole

FORMAT = 2  # raised when the files' layout or the decoding of images changes
_VERIFIED = "verified.json"
Known = dict[str, list[int]]


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

    def __init__(self, folder: Path, index: dict[str, Any], *, verify: Callable[[Path], bool]):
        """Map the shards that `index` (the content of index.json) lists.

        Args:
            folder: of all stores.
            index: of this one.
            verify: whether to read all of a shard's file and check it.

        Raises:
            TornShard: names the shard and what is wrong with it.
        """
        self.folder, self.key = folder, str(index["key"])
        self._form = form = feature_form(index["dtype"])
        self.dtype = form.read
        self.num_pairs, self.patches, self.width = (int(index[name]) for name in ("num_pairs", "patches", "width"))
        listed = [Shard.from_dict(shard) for shard in index["shards"]]
        place = store_folder(folder, self.key)
        self._paths = [place / shard.file for shard in listed]
        mapped = [self._mapped(path, shard, verify) for path, shard in zip(self._paths, listed, strict=True)]
        # sizes are those of files that are there, before anything is made as large as the index says
        firsts, stops = [shard.first for shard in listed], [shard.stop for shard in listed]
        if firsts != [0, *stops][:-1] or [self.num_pairs] != stops[-1:]:
            raise TornShard(f"{place / 'index.json'}: its shards do not cover all pairs")
        self._features: list[Tensor] = []
        self._scales: list[Tensor] = []  # empty where the form has none
        self._shard_of = np.full(self.num_pairs, -1, np.int64)  # -1: bad
        self._row_of = np.zeros(self.num_pairs, np.int64)
        self._check_of = np.zeros(self.num_pairs, np.int64)
        for number, shard in enumerate(mapped):
            scaled = shard.scales is not None
            self._features.append(shard.features.view(torch.int8) if scaled else shard.features)  # rows of any type
            self._scales += [shard.scales] if shard.scales is not None else []
            self._shard_of[shard.rows], self._row_of[shard.rows] = number, np.arange(len(shard.rows))
            self._check_of[shard.rows] = shard.checks
        self.indices: NDArray[np.int64] = np.flatnonzero(self._shard_of >= 0)
        self.bad = [bad for shard in listed for bad in shard.bad]

    def _mapped(self, path: Path, listed: Shard, verify: Callable[[Path], bool]) -> MappedShard:
        expected = (self.patches, self.width)
        try:
            mapped = read_shard(path, key=self.key, verify=verify(path))
            if mapped.shard != listed:
                raise TornShard(f"differs from index.json ({mapped.shard.bytes} bytes, {mapped.shard.rows} rows)")
            features = mapped.features
            if tuple(features.shape[1:]) != expected or features.dtype != self._form.stored:
                raise TornShard(f"holds {tuple(features.shape)} {features.dtype}, not (n, P, D) = (n, {expected})")
            if (mapped.scales is None) != (self._form.largest is None):
                raise TornShard(f"is {'without' if mapped.scales is None else 'with'} scales, unlike its index")
        except TornShard as torn:
            raise TornShard(f"{path}: {torn}") from None
        return mapped

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
            UserError: a row's bytes are not those that were written.
        """
        chosen = self._in_range(indices)
        if not chosen.size:
            return torch.empty(0, self.patches, self.width, dtype=self.dtype)
        shards, rows = self._shard_of[chosen], self._row_of[chosen]
        if shards.min() < 0:
            raise ValueError(f"pair {chosen[shards.argmin()]} is bad and has no features; gather() leaves it out")
        numbers = _picked(self._features, shards, rows)
        scales = _picked(self._scales, shards, rows) if self._scales else None
        wrong = np.flatnonzero(row_checks(chosen, numbers, scales) != self._check_of[chosen])
        if len(wrong):
            path, pair = self._paths[shards[wrong[0]]], chosen[wrong[0]]
            raise UserError(
                f"{path}: holds other bytes than were written (pair {pair}): delete this file, then `fedcmp train` "
                "(with --resume) computes it anew"
            )
        return numbers if scales is None else unpack(numbers.view(self._form.stored), scales)

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
        verify: read every byte and check it; otherwise sizes, headers and row counts are checked, and a row's bytes
            when it is read.

    Raises:
        UserError: there is no such store, or it is stale or torn; names the file and what to do.
    """
    return _opened(folder, key, lambda _path: verify)


def open_verified_store(folder: Path, key: str) -> FeatureStore:
    """Open a complete store; shards that may have changed since they were last read through are read through.

    Raises:
        UserError: see `open_feature_store`.
    """
    begun = time.time_ns()
    place = store_folder(folder, key)
    known = _known(place)
    now: Known = {}

    def verify(path: Path) -> bool:
        identity = list(file_identity(path))
        if max(identity[3:]) <= begun - YOUNG:
            now[path.name] = identity
        return identity != known.get(path.name)

    store = _opened(folder, key, verify)
    if now != known:
        with suppress(UserError):  # a cache that cannot be written to is read through every time
            write_whole(place / _VERIFIED, json.dumps(now).encode())
    return store


def _opened(folder: Path, key: str, verify: Callable[[Path], bool]) -> FeatureStore:
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
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        problem = f"{path}: damaged ({error})"
    raise UserError(f"{problem}: delete the folder, then it is computed anew")


def _known(place: Path) -> Known:
    try:
        known = json.loads((place / _VERIFIED).read_text(encoding="utf-8"))
        return known if isinstance(known, dict) else {}
    except (OSError, ValueError, RecursionError):
        return {}
