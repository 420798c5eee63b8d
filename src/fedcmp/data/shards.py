"""The feature store's files: shards of features, each complete in itself and checkable alone.

A shard is a safetensors file over the pairs first <= index < stop of the source:

    features   (rows, P, D), rows <= stop - first: bad pairs have none
    scales     (rows, P) float32, what a token's numbers are multiplied with; not in all forms (feature_forms.py)
    index      (rows,) int64, each row's index into the source
    checks     (rows,) int64, CRC-32 of each row's index, features and scales: compared whenever a row is read
    metadata   "fedcmp": JSON of {key, first, stop, sha256 of the tensors' bytes, bad pairs}

One metadata entry only: safetensors writes several in no fixed order, and equal shards are to be equal files.
"""

import hashlib
import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from fedcmp.data.quality import Rejected
from fedcmp.files import write_whole


@dataclass(frozen=True)
class Shard:
    """What the index says of one shard.

    Attributes:
        file: its name in the store's folder.
        first: its first pair's index into the source.
        stop: one past its last pair's index.
        rows: usable pairs.
        bytes: the file's size.
        sha256: of the tensors' bytes.
        bad: the unusable pairs.
    """

    file: str
    first: int
    stop: int
    rows: int
    bytes: int
    sha256: str
    bad: tuple[Rejected, ...]

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Shard":
        """Rebuild from what `dataclasses.asdict` and JSON made of it."""
        return cls(**{**values, "bad": tuple(Rejected(*bad) for bad in values["bad"])})


@dataclass(frozen=True)
class MappedShard:
    """One shard, opened.

    Attributes:
        shard: what the file says of itself.
        features: (rows, P, D) as they are stored, mapped into memory.
        rows: (rows,) each row's index into the source.
        scales: (rows, P), or None.
        checks: (rows,) CRC-32 of each row.
    """

    shard: Shard
    features: Tensor
    rows: NDArray[np.int64]
    scales: Tensor | None
    checks: NDArray[np.int64]


class TornShard(Exception):  # noqa: N818 - states what was found; callers rebuild or turn it into a UserError
    """A shard that is missing, cut off, altered, or of another store."""


def shard_name(first: int, shard_size: int) -> str:
    """Return the file name of the shard that starts at `first`."""
    return f"shard-{first // shard_size:05d}.safetensors"


def write_shard(
    path: Path,
    features: Tensor,
    rows: NDArray[np.int64],
    *,
    scales: Tensor | None = None,
    key: str,
    first: int,
    stop: int,
    bad: list[Rejected],
) -> Shard:
    """Write one shard, whole or not at all.

    Args:
        path: where to.
        features: (rows, P, D).
        rows: (rows,) each row's index into the source.
        scales: (rows, P) of the features' form, if it has them.
        key: the store's.
        first: the shard's first pair.
        stop: one past its last pair.
        bad: its unusable pairs.

    Raises:
        UserError: the file cannot be written.
    """
    index = torch.from_numpy(rows)
    beside = {"checks": torch.from_numpy(row_checks(rows, features, scales))}
    if scales is not None:
        beside["scales"] = scales
    checksum = _checksum(features, index, *beside.values())
    header = {"key": key, "first": first, "stop": stop, "sha256": checksum, "bad": [list(one) for one in bad]}
    metadata = {"fedcmp": json.dumps(header, sort_keys=True)}
    write_whole(path, save({"features": features, "index": index, **beside}, metadata))
    return Shard(path.name, first, stop, len(rows), path.stat().st_size, checksum, tuple(bad))


def read_shard(path: Path, *, key: str, verify: bool) -> MappedShard:
    """Open one shard: the header is checked, the features are mapped into memory and not read.

    Args:
        path: the file.
        key: the store that it must belong to.
        verify: read all of it and check the sha256.

    Raises:
        TornShard: what is wrong with it.
    """
    try:
        size = path.stat().st_size
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["fedcmp"])
            features, index, checks = (file.get_tensor(name) for name in ("features", "index", "checks"))
            scales = file.get_tensor("scales") if "scales" in file.keys() else None  # noqa: SIM118 - it is no dict
        shard = Shard.from_dict(
            {name: header[name] for name in ("first", "stop", "sha256", "bad")}
            | {"file": path.name, "rows": len(features), "bytes": size}
        )
        if header["key"] != key:
            raise TornShard("belongs to another store")
    except FileNotFoundError:
        raise TornShard("is missing") from None
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise TornShard(f"is cut off or damaged ({error})") from None
    rows: NDArray[np.int64] = index.numpy()
    if checks.shape != rows.shape or checks.dtype != torch.int64:
        raise TornShard("holds another number of checksums than rows")
    if features.ndim != 3 or rows.shape != (shard.rows,) or shard.rows + len(shard.bad) != shard.stop - shard.first:
        raise TornShard("holds another number of rows than its pairs")
    if scales is not None and (scales.shape != features.shape[:2] or scales.dtype != torch.float32):
        raise TornShard("holds scales that do not fit its features")
    if shard.rows and not ((np.diff(rows) > 0).all() and rows[0] >= shard.first and rows[-1] < shard.stop):
        raise TornShard("holds rows of other pairs")
    if verify and _checksum(features, index, checks, *([] if scales is None else [scales])) != shard.sha256:
        raise TornShard("holds other bytes than its checksum says")
    return MappedShard(shard, features, rows, scales, checks.numpy())


def row_checks(indices: NDArray[np.int64], features: Tensor, scales: Tensor | None) -> NDArray[np.int64]:
    """Return (n,) the CRC-32 of each row: of its index into the source, its features' bytes, then its scales'."""
    checks = np.zeros(len(features), np.int64)
    for row, index in enumerate(indices.tolist()):
        own = zlib.crc32(index.to_bytes(8, "little"))
        check = zlib.crc32(features[row].reshape(-1).view(torch.uint8).numpy().data, own)
        checks[row] = check if scales is None else zlib.crc32(scales[row].view(torch.uint8).numpy().data, check)
    return checks


def _checksum(*tensors: Tensor) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        if tensor.numel():  # an empty one cannot be viewed as bytes
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
