"""Captions and small pictures of single pairs, by their rows in the embeddings, for people to look at."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fedcmp.data.contents import CONTENTS, user_cache_folder
from fedcmp.data.images import decode_image
from fedcmp.data.pairs import open_pairs
from fedcmp.data.quality import BadPair
from fedcmp.data.source import Pair, PairSource
from fedcmp.errors import UserError
from fedcmp.scenarios.embeddings.folder import EmbeddingFolder

SIDE = 160  # pixels of a thumbnail's longer side, at most
_DRAWN = 64  # pictures up to this side are kept exactly, as PNG: they are drawings, and JPEG smears them


def open_source(described: Mapping[str, Any]) -> tuple[PairSource | None, str]:
    """Open the pairs that embeddings were made of.

    Args:
        described: their "source": format, pairs (paths), images (a folder or None), fingerprint.

    Returns:
        The pairs, or None and the reason why there are none.
    """
    try:
        images = described.get("images")
        pairs = [Path(path) for path in described["pairs"]]
        contents = user_cache_folder() / CONTENTS
        source = open_pairs(described["format"], pairs, None if images is None else Path(images), contents=contents)
    except UserError as error:
        return None, str(error)
    except (KeyError, TypeError):
        return None, "the embeddings do not say where their pairs are"
    if source.fingerprint() != described.get("fingerprint"):
        return None, f"{source.name}: holds other pairs than when it was embedded"
    return source, ""


class SamplePairs:
    """Reads pairs of a source by their row in the embeddings.

    Args:
        source: which the embeddings are of.
        embeddings: the folder.
        ids: (N,) names, as `EmbeddingFolder.ids` gives them.
    """

    def __init__(self, source: PairSource, embeddings: EmbeddingFolder, ids: list[str]) -> None:
        self._source, self._shards, self._ids = source, embeddings.shards, ids
        self._starts = np.cumsum([0, *(shard.rows for shard in embeddings.shards)])

    def caption(self, row: int) -> str | None:
        """The caption; None if it cannot be read."""
        found = self._find(row)
        return None if found is None else found[1].caption

    def thumbnail(self, row: int) -> bytes | None:
        """The picture as a small PNG or JPEG file; None if it cannot be read."""
        found = self._find(row)
        if found is None:
            return None
        try:
            return thumbnail(self._source.read_image(found[0]))
        except BadPair:
            return None

    def _find(self, row: int) -> tuple[int, Pair] | None:
        """The index and the pair of a row: as many places after its shard's first as there are bad pairs before it."""
        number = int(np.searchsorted(self._starts, row, side="right")) - 1
        shard = self._shards[number]
        earliest = shard.first + row - int(self._starts[number])
        bad = shard.stop - shard.first - shard.rows
        for index in range(earliest, min(earliest + bad + 1, len(self._source))):
            try:
                pair = self._source.pair(index)
            except BadPair:
                continue
            if pair.key == self._ids[row]:
                return index, pair
        return None


def thumbnail(content: bytes) -> bytes:
    """Scale a picture's file down to at most 160 pixels a side; smaller ones keep their size.

    Raises:
        BadPair: no usable picture.
    """
    picture = decode_image(content)
    drawn = max(picture.size) <= _DRAWN
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    picture.save(out, "PNG" if drawn else "JPEG", quality=80)
    return out.getvalue()
