"""Open image-caption pairs: LLaVA-format JSON with an images folder, or WebDataset tars."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from fedcmp.data.llava import LlavaPairs
from fedcmp.data.source import Pair, PairSource
from fedcmp.data.tars import TarPairs, expand_shards
from fedcmp.errors import UserError

__all__ = ["Pair", "PairSource", "open_pairs"]


def open_pairs(
    format: Literal["llava", "webdataset"],
    pairs: Path | Sequence[Path],
    images: Path | None = None,
) -> PairSource:
    """Index a user's pairs; pictures and captions are read lazily afterwards.

    Args:
        format: "llava": JSON or JSON-lines files (`llava`); "webdataset": tar shards (`tars`).
        pairs: the annotation files, or the shards: names with braces and wildcards ("shard-{0000..0009}.tar",
            "shard-*.tar") or folders of tars.
        images: the folder that LLaVA records' "image" paths start from; the annotation file's own folder if not
            given. WebDataset shards hold their pictures.

    Returns:
        The pairs in the files' order.

    Raises:
        UserError: an unknown format, a missing file or folder, unreadable or empty annotations.
    """
    paths = [Path(pairs)] if isinstance(pairs, str | Path) else [Path(path) for path in pairs]
    if not paths:
        raise UserError("no pairs file is named: give at least one")
    if format == "llava":
        return LlavaPairs(paths, paths[0].parent if images is None else Path(images))
    if format == "webdataset":
        return TarPairs(expand_shards(paths))
    raise UserError(f"unknown format of pairs {format!r}: choose llava or webdataset")
