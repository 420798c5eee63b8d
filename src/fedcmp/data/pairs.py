"""Open image-caption pairs: LLaVA-format JSON with an images folder, WebDataset tars, or parquet files."""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from fedcmp.data.accounts import BEYOND
from fedcmp.data.file_lists import expand_files
from fedcmp.data.llava import LlavaPairs, annotation_files
from fedcmp.data.source import Pair, PairSource
from fedcmp.data.tars import TarPairs
from fedcmp.errors import UserError
from fedcmp.extras import require

if TYPE_CHECKING:
    from fedcmp.data.parquet import ParquetPairs

__all__ = ["OpenedPairs", "Pair", "PairFormat", "PairSource", "first_pairs", "open_pairs"]

PairFormat = Literal["llava", "webdataset", "parquet"]
OpenedPairs: TypeAlias = "LlavaPairs | TarPairs | ParquetPairs"


class _FirstPairs:
    """The first pairs of a source, and the refused ones that stood before the last of them."""

    def __init__(self, source: OpenedPairs, count: int) -> None:
        self._source, self._count = source, count
        self.name = f"the first {count:,} pairs of {source.name}"
        before = sum(place < count for place in source.rejected_at)
        self.rejected = source.rejected[:before]
        beyond = len(source) - count + len(source.rejected) - before
        self.unused, self.ignored = source.unused + Counter({BEYOND: beyond}), source.ignored

    def __len__(self) -> int:
        return self._count

    def pair(self, index: int) -> Pair:
        return self._source.pair(index)

    def read_image(self, index: int) -> bytes:
        return self._source.read_image(index)

    def fingerprint(self, progress: Callable[[int, int], object] | None = None) -> str:
        return hashlib.sha256(
            f"{self._source.fingerprint(progress, first=self._count)} first {self._count}".encode()
        ).hexdigest()

    def locate(self, index: int) -> str:
        return self._source.locate(index)


def first_pairs(source: OpenedPairs, count: int | None) -> PairSource:
    """Return the source's first `count` pairs, or the source itself if it has no more, or count is None."""
    return source if count is None or count >= len(source) else _FirstPairs(source, count)


def open_pairs(
    format: PairFormat,
    pairs: Path | Sequence[Path],
    images: Path | None = None,
    *,
    owner: str = "",
    contents: Path | None = None,
) -> OpenedPairs:
    """Index a user's pairs; images and captions are read lazily afterwards.

    Args:
        format: "llava": JSON or JSON-lines files (`llava`); "webdataset": tar shards (`tars`); "parquet": files with
            images inside (`parquet`).
        pairs: the annotation files, or the shards: names with braces and wildcards ("shard-{0000..0009}.tar",
            "train-*.parquet") or folders of them (`file_lists`).
        images: the folder that LLaVA records' image paths start from; each annotation file's own folder if not
            given. Shards and parquet files hold their images.
        owner: who brings them, for messages: files of several clients may be called alike.
        contents: folder where it is kept what images hold (`contents`), so that a later run need not read them again.

    Returns:
        The pairs in the files' order.

    Raises:
        UserError: an unknown format, a missing file or folder, unreadable or empty annotations.
    """
    try:
        source = _opened(format, pairs, images, contents)
    except UserError as error:
        if not owner:
            raise
        raise UserError(f"{owner}: {error}") from error
    if owner:
        source.name = f"{owner}: {source.name}"
    return source


def _opened(
    format: PairFormat, pairs: Path | Sequence[Path], images: Path | None, contents: Path | None
) -> OpenedPairs:
    paths = [Path(pairs)] if isinstance(pairs, str | Path) else [Path(path) for path in pairs]
    if not paths:
        raise UserError("no pairs file is named: give at least one")
    if format == "llava":
        found = annotation_files(paths)
        return LlavaPairs(found.files, images, ignored=found.ignored, contents=contents)
    if format == "webdataset":
        found = expand_files(paths, [".tar"], what="shard")
        return TarPairs(found.files, ignored=found.ignored, contents=contents)
    if format == "parquet":
        require("pyarrow", "parquet", "parquet files")
        from fedcmp.data.parquet import ParquetPairs

        found = expand_files(paths, [".parquet"], what="parquet file")
        return ParquetPairs(found.files, ignored=found.ignored, contents=contents)
    raise UserError(f"unknown format of pairs {format!r}: choose llava, webdataset or parquet")
