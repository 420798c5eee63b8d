"""One pass over the pairs: an order that never changes, parts for the rounds, batches of like length, a cursor.

order    pairs sorted by splitmix64(seed, index); equal on every machine and with every release of NumPy, whose
         generators do not promise that. The order of a subset is the whole's order restricted to it
parts    R consecutive pieces of the order, sizes differing by at most one: round r trains on part r only
batches  within `buckets` batches' worth of consecutive pairs, sorted by caption length and cut into batches, so
         that little is computed on padding; then the batches' order is shuffled
cursor   (seed, round, position): batches of the round that have been handed out
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

_GOLDEN, _MASK = 0x9E3779B97F4A7C15, 2**64 - 1


def one_pass_order(indices: int | ArrayLike, seed: int) -> NDArray[np.int64]:
    """Shuffle pairs' indices once and for all.

    Args:
        indices: (n,) distinct indices of at least 0, or n for all of range(n).
        seed: any integer; counts modulo 2**64.

    Returns:
        (n,) the same indices, sorted by a 64-bit hash of (seed, index).
    """
    chosen = _as_indices(indices)
    return chosen[np.lexsort((chosen, _hashes(seed, chosen)))]


def round_parts(indices: NDArray[np.int64], rounds: int) -> list[NDArray[np.int64]]:
    """Cut an order into `rounds` disjoint consecutive parts that cover it; sizes differ by at most one.

    Raises:
        ValueError: rounds < 1.
    """
    if rounds < 1:
        raise ValueError(f"rounds = {rounds}: must be at least 1")
    return np.array_split(indices, rounds)


def batches_of_part(
    indices: NDArray[np.int64], caption_lengths: ArrayLike, *, batch_size: int, seed: int, buckets: int = 8
) -> list[NDArray[np.int64]]:
    """Cut one part into batches of captions of like length; every index comes exactly once.

    Args:
        indices: (n,) the part, in its order.
        caption_lengths: (n,) the caption's length of each of `indices`, in any unit.
        batch_size: pairs a batch; one batch may be smaller.
        seed: of the batches' order.
        buckets: batches' worth of pairs that are sorted together; 1 batches without regard to length.

    Returns:
        Arrays of at most batch_size indices.

    Raises:
        ValueError: lengths of another size than indices; batch_size or buckets < 1.
    """
    lengths = np.asarray(caption_lengths)
    if lengths.shape != indices.shape:
        raise ValueError(f"{lengths.size} caption lengths for {indices.size} indices: give one each")
    if batch_size < 1 or buckets < 1:
        raise ValueError(f"batch_size = {batch_size}, buckets = {buckets}: must be at least 1")
    batches: list[NDArray[np.int64]] = []
    for start in range(0, len(indices), batch_size * buckets):
        bucket = slice(start, start + batch_size * buckets)
        by_length = indices[bucket][np.argsort(lengths[bucket], kind="stable")]
        batches += [by_length[at : at + batch_size] for at in range(0, len(by_length), batch_size)]
    return [batches[at] for at in one_pass_order(len(batches), seed)]


@dataclass(frozen=True)
class Cursor:
    """A place in a pass; valid for the same pairs, rounds and batch size only.

    Attributes:
        seed: the pass's seed.
        round: from 0; equal to the number of rounds when the pass is over.
        position: batches of the round that have been handed out.
    """

    seed: int
    round: int = 0
    position: int = 0

    def to_dict(self) -> dict[str, int]:
        """Return the cursor as JSON can hold it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, int]) -> "Cursor":
        """Rebuild a cursor.

        Raises:
            ValueError: other keys than seed, round and position, or values that are not integers of at least 0.
        """
        if set(values) != {"seed", "round", "position"} or any(type(value) is not int for value in values.values()):
            raise ValueError(f"not a cursor: {values}: needs integers seed, round and position")
        if values["round"] < 0 or values["position"] < 0:
            raise ValueError(f"not a cursor: {values}: round and position must be at least 0")
        return cls(**values)


class OnePass(Iterator[NDArray[np.int64]]):
    """The batches of all rounds of one pass, from any cursor on; no pair comes twice.

    batches = OnePass(indices, lengths, rounds=10, batch_size=16, seed=7, cursor=saved)
    for batch in batches.rest_of_round():
        ...                                  # batches.cursor is the place behind this batch
    """

    def __init__(
        self,
        indices: int | ArrayLike,
        caption_lengths: ArrayLike,
        *,
        rounds: int,
        batch_size: int,
        seed: int,
        buckets: int = 8,
        cursor: Cursor | None = None,
        parts: Sequence[NDArray[np.int64]] | None = None,
    ):
        """Lay out the pass.

        Args:
            indices: (n,) distinct indices of the pairs, or n for all of range(n).
            caption_lengths: (n,) the caption's length of each of `indices`.
            rounds: parts of the pass, at least 1.
            batch_size: pairs a batch.
            seed: of the order and of the batches.
            buckets: see `batches_of_part`.
            cursor: where to go on; the start if not given.
            parts: what each round trains on, in order, where that is fixed already; None: an order by the seed.

        Raises:
            ValueError: an index comes twice; parts that are no division of the indices into rounds; the cursor has
                another seed or lies outside the pass; see also `batches_of_part` and `round_parts`.
        """
        chosen = _as_indices(indices)
        lengths = np.asarray(caption_lengths)
        if len(np.unique(chosen)) != len(chosen):
            raise ValueError("an index comes twice: a pass meets every pair once")
        if lengths.shape != chosen.shape:
            raise ValueError(f"{lengths.size} caption lengths for {chosen.size} indices: give one each")
        if parts is None:
            parts = round_parts(chosen[np.lexsort((chosen, _hashes(seed, chosen)))], rounds)
        ascending = np.argsort(chosen)
        if len(parts) != rounds or not np.array_equal(np.sort(np.concatenate(parts)), chosen[ascending]):
            raise ValueError(f"parts: must divide the {len(chosen)} indices into {rounds} rounds")
        places = [ascending[np.searchsorted(chosen, part, sorter=ascending)] for part in parts]
        self.cursor = cursor or Cursor(seed)
        self.rounds, self._seed, self._batch_size, self._buckets = rounds, seed, batch_size, buckets
        self._parts, self._lengths = list(parts), [lengths[place] for place in places]
        self._loaded: tuple[int, list[NDArray[np.int64]]] = -1, []
        if self.cursor.seed != seed:
            raise ValueError(f"the cursor's seed {self.cursor.seed} is not the pass's seed {seed}")
        place = self.cursor.round, self.cursor.position
        if self.cursor.round > rounds or self.cursor.position > len(self.batches(self.cursor.round)):
            raise ValueError(f"the cursor {place} lies outside the pass: was it saved with another batch size?")

    def part(self, round_index: int) -> NDArray[np.int64]:
        """Return the indices of one round's part, in the pass's order."""
        return self._parts[round_index]

    def batches(self, round_index: int) -> list[NDArray[np.int64]]:
        """Return all batches of one round; none past the last round."""
        if round_index >= self.rounds:
            return []
        if self._loaded[0] != round_index:
            batches = batches_of_part(
                self._parts[round_index],
                self._lengths[round_index],
                batch_size=self._batch_size,
                seed=_mix(self._seed + _GOLDEN * (round_index + 1)),
                buckets=self._buckets,
            )
            self._loaded = round_index, batches
        return self._loaded[1]

    def __next__(self) -> NDArray[np.int64]:
        while self.cursor.position >= len(self.batches(self.cursor.round)):
            if self.cursor.round >= self.rounds:
                raise StopIteration
            self.cursor = Cursor(self._seed, self.cursor.round + 1)
        batch = self.batches(self.cursor.round)[self.cursor.position]
        self.cursor = Cursor(self._seed, self.cursor.round, self.cursor.position + 1)
        return batch

    def rest_of_round(self) -> Iterator[NDArray[np.int64]]:
        """Hand out what is left of the cursor's round; the cursor then stands at the next round's start."""
        number = self.cursor.round
        while self.cursor.round == number and self.cursor.position < len(self.batches(number)):
            yield next(self)
        if self.cursor.round == number < self.rounds:
            self.cursor = Cursor(self._seed, number + 1)


def collate(token_ids: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Stack captions of different lengths.

    Args:
        token_ids: B captions' token ids.
        pad_id: fills the right of the shorter ones.

    Returns:
        (B, T) int64 ids, T the longest caption's length, and (B,) int64 lengths.
    """
    lengths = [len(ids) for ids in token_ids]
    longest = max(lengths, default=0)
    padded = [[*row, *[pad_id] * (longest - len(row))] for row in token_ids]
    ids = torch.tensor(padded, dtype=torch.int64).reshape(len(lengths), longest)
    return ids, torch.tensor(lengths, dtype=torch.int64)


def _as_indices(indices: int | ArrayLike) -> NDArray[np.int64]:
    chosen = np.asarray(indices, np.int64)
    return np.arange(int(chosen), dtype=np.int64) if chosen.ndim == 0 else chosen


def _hashes(seed: int, indices: NDArray[np.int64]) -> NDArray[np.uint64]:
    """(n,) splitmix64 streams of hashed seeds, so that neighbouring seeds are not shifted copies of each other."""
    x = np.uint64(_mix(seed)) + (indices.astype(np.uint64) + np.uint64(1)) * np.uint64(_GOLDEN)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _mix(value: int) -> int:
    """One step of splitmix64 (Steele, Lea and Flood 2014) from the state `value`, modulo 2**64."""
    x = (value + _GOLDEN) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)
