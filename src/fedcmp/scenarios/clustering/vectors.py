"""What is clustered: one vector x_i a pair, in memory or read from a folder of embeddings piece by piece.

             image   text   joint               cross
x_i          v_i     t_i    [v_i; t_i]/sqrt 2   [v_i; t_i]
partner y_i  v_i     t_i    [v_i; t_i]/sqrt 2   [t_i; v_i]
similarity   s_ij = x_i . y_j

So a partner is the vector itself, or its two halves in the other order. Shapes: N pairs, E embedding width, D width of
x (E, or 2 E for joint and cross).
"""

import math
from abc import ABC, abstractmethod
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fedcmp.scenarios.embeddings.folder import EmbeddingFolder, Part

Similarity = Literal["image", "text", "joint", "cross"]
SIMILARITIES: tuple[Similarity, ...] = get_args(Similarity)
PARTS_OF: dict[Similarity, tuple[Part, ...]] = {
    "image": ("image",),
    "text": ("text",),
    "joint": ("image", "text"),
    "cross": ("image", "text"),
}
Floats = NDArray[np.floating[Any]]
_LONGER = 1.01  # a unit vector that was rounded to half precision is at most so long


class Vectors(ABC):
    """N vectors by number.

    Attributes:
        width: D.
        halves: whether a partner has its halves in the other order (cross).
        dtype: of rows and of what is computed with them.
        longest: no vector is longer.
    """

    width: int
    halves: bool
    dtype: "np.dtype[np.floating[Any]]"
    longest: float

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def rows(self, start: int, stop: int) -> Floats:
        """(stop - start, D) consecutive vectors."""

    @abstractmethod
    def gather(self, numbers: NDArray[np.int64]) -> Floats:
        """(n, D) vectors by number."""

    def partners(self, vectors: Floats) -> Floats:
        """(n, D) vectors -> their partners."""
        return np.roll(vectors, self.width // 2, axis=1) if self.halves else vectors

    def normalised(self, sums: Floats) -> Floats:
        """(n, D) sums of vectors -> means of length 1; of a vector with halves, each half has length 1."""
        parts = np.split(sums, 2 if self.halves else 1, axis=1)
        return np.concatenate([p / np.maximum(np.linalg.norm(p, axis=1, keepdims=True), 1e-300) for p in parts], 1)


class MemoryVectors(Vectors):
    """Vectors in memory.

    Args:
        vectors: (N, D) x.
        halves: see `Vectors`.
        dtype: of the arithmetic.
    """

    def __init__(self, vectors: Floats, *, halves: bool = False, dtype: Any = np.float64) -> None:
        self._vectors = np.ascontiguousarray(vectors, dtype)
        self.width, self.halves, self.dtype = vectors.shape[1], halves, self._vectors.dtype
        self.longest = _LONGER * (math.sqrt(2) if halves else 1.0)

    def __len__(self) -> int:
        return len(self._vectors)

    def rows(self, start: int, stop: int) -> Floats:
        """(stop - start, D) consecutive vectors, a view."""
        return self._vectors[start:stop]

    def gather(self, numbers: NDArray[np.int64]) -> Floats:
        """(n, D) vectors by number."""
        return self._vectors[numbers]


class FolderVectors(Vectors):
    """Vectors of a folder of embeddings; nothing but what is asked for is in memory.

    Args:
        embeddings: the folder.
        similarity: by which pairs are compared.
    """

    def __init__(self, embeddings: EmbeddingFolder, similarity: Similarity) -> None:
        self._embeddings, self._parts = embeddings, PARTS_OF[similarity]
        self.width, self.halves = embeddings.width * len(self._parts), similarity == "cross"
        self.dtype = np.dtype(np.float32)
        self.longest = _LONGER * (math.sqrt(2) if self.halves else 1.0)
        self._scale = 1 / math.sqrt(2) if similarity == "joint" else 1.0

    def __len__(self) -> int:
        return len(self._embeddings)

    def rows(self, start: int, stop: int) -> Floats:
        """(stop - start, D) consecutive vectors."""
        return self._joined([self._embeddings.rows(part, start, stop) for part in self._parts])

    def gather(self, numbers: NDArray[np.int64]) -> Floats:
        """(n, D) vectors by number."""
        return self._joined([self._embeddings.gather(part, numbers) for part in self._parts])

    def _joined(self, parts: list[NDArray[np.float16]]) -> Floats:
        width = self._embeddings.width
        out = np.empty((len(parts[0]), self.width), np.float32)
        for number, rows in enumerate(parts):
            out[:, number * width : (number + 1) * width] = rows
        if self._scale != 1.0:
            out *= np.float32(self._scale)
        return out
