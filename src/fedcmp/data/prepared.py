"""Pairs made ready for training: frozen features, caption tokens, groups; the view that learners and judges share.

Shapes: N pairs, B a batch, P patches, V vision width, T the batch's longest caption.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save
from torch import Tensor

from fedcmp.data.batches import collate
from fedcmp.data.features import FeatureSource
from fedcmp.files import write_whole


@dataclass(frozen=True)
class TokenTable:
    """All captions as token ids, end to end.

    Attributes:
        flat: (total,) int32 ids.
        starts: (N + 1,) int64; caption i is flat[starts[i]:starts[i + 1]].
    """

    flat: NDArray[np.int32]
    starts: NDArray[np.int64]

    @classmethod
    def of(cls, captions: Sequence[Sequence[int]]) -> "TokenTable":
        """From lists of ids."""
        lengths = np.fromiter((len(ids) for ids in captions), np.int64, len(captions))
        flat = np.fromiter((token for ids in captions for token in ids), np.int32, int(lengths.sum()))
        return cls(flat, np.concatenate([[0], lengths.cumsum()]).astype(np.int64))

    @classmethod
    def read(cls, path: Path) -> "TokenTable":
        """From a file written by `write`."""
        tensors = load_file(path)
        return cls(tensors["flat"].numpy(), tensors["starts"].numpy())

    def write(self, path: Path) -> None:
        """As safetensors, whole or not at all."""
        write_whole(path, save({"flat": torch.from_numpy(self.flat), "starts": torch.from_numpy(self.starts)}))

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(N,) tokens of each caption."""
        return np.diff(self.starts)

    def cut(self, end: int) -> NDArray[np.bool_]:
        """Return (N,) which captions were cut: those without the end-of-sequence token `end`."""
        last: NDArray[np.bool_] = self.flat[self.starts[1:] - 1] != end
        return last

    def take(self, rows: Sequence[int]) -> "TokenTable":
        """Return a table of some rows, in their order."""
        return TokenTable.of([self[row] for row in rows])

    def __getitem__(self, index: int) -> list[int]:
        tokens: list[int] = self.flat[self.starts[index] : self.starts[index + 1]].tolist()
        return tokens


@dataclass(frozen=True)
class Batch:
    """What one training or evaluation step needs.

    Attributes:
        features: (B, P, V) frozen features in their stored dtype.
        ids: (B, T) caption tokens, padded on the right.
        lengths: (B,) how many of them count.
        positions: (B,) of the pairs; those whose image turned out bad are left out.
    """

    features: Tensor
    ids: Tensor
    lengths: Tensor
    positions: NDArray[np.int64]


@dataclass(frozen=True)
class PreparedPairs:
    """Pairs by position 0 .. N - 1.

    Attributes:
        features: frozen features by position in the source.
        rows: (N,) position in the source of each usable pair.
        tokens: captions of the usable pairs.
        groups: a label a pair.
        pad: the padding token's id.
    """

    features: FeatureSource
    rows: NDArray[np.int64]
    tokens: TokenTable
    groups: list[str]
    pad: int

    def __len__(self) -> int:
        return len(self.rows)

    def batch(
        self,
        positions: NDArray[np.int64],
        swapped: dict[int, int] | None = None,
        *,
        images: NDArray[np.int64] | None = None,
    ) -> Batch:
        """Return the pairs at `positions`.

        Args:
            positions: (B,) of the pairs.
            swapped: pairs that carry another pair's caption.
            images: (N,) the pair whose image each pair gets, no two the same one; None: its own.
        """
        swapped = swapped or {}
        shown = self.rows[positions if images is None else images[positions]]
        # a picture that turns out bad while it is read on the fly is counted there and left out here
        usable, features = self.features.gather(shown)
        if len(usable) < len(positions):
            positions = positions[np.isin(shown, usable)]
        captions = [self.tokens[swapped.get(p, p)] for p in positions.tolist()]
        if not captions:
            return Batch(features, torch.empty(0, 0, dtype=torch.long), torch.empty(0, dtype=torch.long), positions)
        ids, lengths = collate(captions, self.pad)
        return Batch(features, ids, lengths, positions)
