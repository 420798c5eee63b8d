"""Open image-caption pairs: LLaVA-format JSON with an images folder, WebDataset tars, or parquet files."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fedcmp.data.llava import LlavaPairs
from fedcmp.data.source import Pair, PairSource
from fedcmp.data.tars import TarPairs, expand_shards
from fedcmp.errors import UserError
from fedcmp.extras import require

if TYPE_CHECKING:
    from fedcmp.data.parquet import ParquetPairs

__all__ = ["Pair", "PairFormat", "PairSource", "first_pairs", "open_pairs"]

PairFormat = Literal["llava", "webdataset", "parquet"]


class _FirstPairs:
    """The first pairs of a source; its refused records count as they are, wherever they stood."""

    def __init__(self, source: PairSource, count: int) -> None:
        self._source, self._count = source, count
        self.name, self.rejected = f"the first {count:,} pairs of {source.name}", source.rejected

    def __len__(self) -> int:
        return self._count

    def pair(self, index: int) -> Pair:
        return self._source.pair(index)

    def read_image(self, index: int) -> bytes:
        return self._source.read_image(index)

    def fingerprint(self) -> str:
        return hashlib.sha256(f"{self._source.fingerprint()} first {self._count}".encode()).hexdigest()

    def locate(self, index: int) -> str:
        return self._source.locate(index)


def first_pairs(source: PairSource, count: int | None) -> PairSource:
    """The source's first `count` pairs, or the source itself if it has no more, or count is None."""
    return source if count is None or count >= len(source) else _FirstPairs(source, count)


def open_pairs(
    format: PairFormat,
    pairs: Path | Sequence[Path],
    images: Path | None = None,
    *,
    owner: str = "",
) -> PairSource:
    """Index a user's pairs; pictures and captions are read lazily afterwards.

    Args:
        format: "llava": JSON or JSON-lines files (`llava`); "webdataset": tar shards (`tars`); "parquet": files with
            pictures inside (`parquet`).
        pairs: the annotation files, or the shards: names with braces and wildcards ("shard-{0000..0009}.tar",
            "train-*.parquet") or folders of them.
        images: the folder that LLaVA records' "image" paths start from; the annotation file's own folder if not
            given. Shards and parquet files hold their pictures.
        owner: who brings them, for messages: files of several clients may be called alike.

    Returns:
        The pairs in the files' order.

    Raises:
        UserError: an unknown format, a missing file or folder, unreadable or empty annotations.
    """
    try:
        source = _opened(format, pairs, images)
    except UserError as error:
        if not owner:
            raise
        raise UserError(f"{owner}: {error}") from error
    if owner:
        source.name = f"{owner}: {source.name}"
    return source


def _opened(
    format: PairFormat, pairs: Path | Sequence[Path], images: Path | None
) -> "LlavaPairs | TarPairs | ParquetPairs":
    paths = [Path(pairs)] if isinstance(pairs, str | Path) else [Path(path) for path in pairs]
    if not paths:
        raise UserError("no pairs file is named: give at least one")
    if format == "llava":
        return LlavaPairs(paths, paths[0].parent if images is None else Path(images))
    if format == "webdataset":
        return TarPairs(expand_shards(paths))
    if format == "parquet":
        require("pyarrow", "parquet", "parquet files")
        from fedcmp.data.parquet import ParquetPairs
        from fedcmp.data.parquet_columns import expand_parquet

        return ParquetPairs(expand_parquet(paths))
    raise UserError(f"unknown format of pairs {format!r}: choose llava, webdataset or parquet")
