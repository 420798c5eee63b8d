"""The shards of one collection by one model, made by any number of processes on any number of machines.

All that they share is the folder. A process claims a shard before it reads its pairs (`locks.Claims`), looks whether
another has made it meanwhile, and gives the claim back once the shard is written. So no shard is made by two, those of
a process that is killed are made by the others, and every process ends with all of them.

Shapes: n pairs in a shard, E embedding width.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from fedcmp.data.features import rejected_pair
from fedcmp.data.quality import BadPair, BadPairs, Rejected, logger
from fedcmp.data.source import PairSource
from fedcmp.errors import counted
from fedcmp.files import TEMPORARY
from fedcmp.locks import Claims
from fedcmp.scenarios.embeddings.batches import Batch, Vectors
from fedcmp.scenarios.embeddings.folder import (
    BAD_PAIRS,
    INDEX,
    EmbeddingShard,
    TornEmbeddings,
    bad_id,
    read_embedding_shard,
    write_embedding_shard,
    write_index,
)
from fedcmp.scenarios.embeddings.inputs import EmbeddingInputs

Progress = Callable[[str, int, int], object]
Embed = Callable[[Iterator[Batch]], Iterable[tuple[int, Vectors]]]  # batches -> each one's place and vectors
_LOOK_SECONDS = 1.0  # until a process that waits for others looks again


@dataclass
class _Span:
    """The pairs of one batch: those that can be read by their index, and the others."""

    shard: int
    pairs: int
    ids: dict[int, str]
    bad: dict[int, Rejected]


@dataclass
class _Unfinished:
    """A shard of which some batches are embedded."""

    pairs: int = 0
    ids: dict[int, str] = field(default_factory=dict)
    bad: dict[int, Rejected] = field(default_factory=dict)
    vectors: dict[int, Vectors] = field(default_factory=dict)  # by the number of the batch


class CollectionShards:
    """All shards of a collection: those that are whole, and those that are still to be made.

    Args:
        source: the pairs.
        out: the folder.
        inputs: what the shards are made of.
        width: E.
        batch_size: pairs a call of the model.
        claims: this process's in the folder.
        progress: called with ("checking shards" or "embedding pairs", done, total).

    Attributes:
        whole: by their numbers.
    """

    def __init__(
        self,
        source: PairSource,
        out: Path,
        inputs: EmbeddingInputs,
        width: int,
        batch_size: int,
        claims: Claims,
        progress: Progress,
    ) -> None:
        self._source, self._out, self._inputs, self._width = source, out, inputs, width
        self._batch_size, self._claims, self._progress = batch_size, claims, progress
        self._size = inputs.shard_size
        self.whole: dict[int, EmbeddingShard] = {}
        self._missing: list[int] = []
        self._spans: dict[int, _Span] = {}  # of the batches under way, by their numbers
        self._done = 0  # pairs

    def check(self, ledger: BadPairs) -> None:
        """Keep the whole shards that are there, every byte of them checked."""
        count = -(-len(self._source) // self._size)
        for number in range(count):
            if self._keep(number, ledger, warn=True):
                self._progress("checking shards", number + 1, count)
            else:
                self._missing.append(number)

    def count_batches(self) -> int:
        """How many batches are still to be embedded, by whichever process."""
        ranges = [self._range(shard) for shard in self._missing]
        return sum(-(-(stop - first) // self._batch_size) for first, stop in ranges)

    def make(self, embed: Embed, ledger: BadPairs) -> None:
        """Make the missing shards that no other process makes, and wait for the others.

        Args:
            embed: from batches to vectors, in any order.
            ledger: counts the bad pairs of all shards.

        Raises:
            UserError: too many bad pairs, or a file cannot be written.
        """
        told = False
        self._progress("embedding pairs", self._done, len(self._source))
        while self._missing:
            before = len(self._missing)
            self._embed(embed(self._batches(ledger)), ledger)
            if self._missing and len(self._missing) == before:
                if not told:
                    holder = self._claims.holder(self._claim(self._missing[0]))
                    by = f" ({holder})" if holder else ""
                    logger.warning("%s: waiting for %s of other processes%s", self._out, counted(before, "shard"), by)
                told = True
                time.sleep(_LOOK_SECONDS)

    def write_index(self) -> None:
        """Say that the folder is complete."""
        with self._claims.turn(INDEX):
            for name in (INDEX, BAD_PAIRS):
                clear_unfinished(self._out, name)
            write_index(
                self._out,
                [self.whole[number] for number in sorted(self.whole)],
                width=self._width,
                model=self._inputs.model,
                source=self._inputs.source,
                rejected=self._source.rejected,
            )

    def _batches(self, ledger: BadPairs) -> Iterator[Batch]:
        """Claim shards, one whenever its first batch is asked for, and read their pairs; no batch has pairs of two."""
        batch = 0
        for shard in list(self._missing):
            if not self._claims.take(self._claim(shard)):
                continue
            if self._keep(shard, ledger):
                self._missing.remove(shard)
                self._claims.release(self._claim(shard))
                self._progress("embedding pairs", self._done, len(self._source))
                continue
            clear_unfinished(self._out, self._path(shard).name)
            first, stop = self._range(shard)
            for start in range(first, stop, self._batch_size):
                span, captions = self._span(shard, range(start, min(start + self._batch_size, stop)))
                self._spans[batch] = span
                batch += 1
                yield Batch(captions, [partial(self._source.read_image, index) for index in span.ids])

    def _span(self, shard: int, indices: range) -> tuple[_Span, list[str]]:
        """Read the captions of some pairs."""
        span, captions = _Span(shard, len(indices), {}, {}), []
        for index in indices:
            try:
                pair = self._source.pair(index)
                if reason := bad_id(pair.key):
                    raise BadPair("malformed record", f"the id {pair.key!r} {reason}")
            except BadPair as problem:
                span.bad[index] = rejected_pair(self._source, index, problem)
            else:
                span.ids[index] = pair.key
                captions.append(pair.caption)
        return span, captions

    def _embed(self, results: Iterable[tuple[int, Vectors]], ledger: BadPairs) -> None:
        """Write each shard as soon as all its batches are there, which come in any order."""
        unfinished: dict[int, _Unfinished] = {}
        for number, vectors in results:
            span = self._spans.pop(number)
            indices = list(span.ids)
            for position, problem in vectors.bad.items():
                index = indices[position]
                span.bad[index] = rejected_pair(self._source, index, problem)
                del span.ids[index]
            for bad in span.bad.values():
                ledger.add(bad)
            shard = unfinished.setdefault(span.shard, _Unfinished())
            shard.pairs += span.pairs
            shard.ids |= span.ids
            shard.bad |= span.bad
            shard.vectors[number] = vectors
            first, stop = self._range(span.shard)
            if shard.pairs == stop - first:
                self.whole[span.shard] = self._write(span.shard, unfinished.pop(span.shard))
                self._missing.remove(span.shard)
                self._claims.release(self._claim(span.shard))
            self._done += span.pairs
            self._progress("embedding pairs", self._done, len(self._source))

    def _keep(self, number: int, ledger: BadPairs, *, warn: bool = False) -> bool:
        """Take a shard that is whole as it is; returns whether it is."""
        path, (first, stop) = self._path(number), self._range(number)
        try:
            shard, width = read_embedding_shard(path, key=self._inputs.key)
            if (shard.first, shard.stop, width) != (first, stop, self._width):
                raise TornEmbeddings("holds other pairs")
        except TornEmbeddings as torn:
            if warn and path.exists():
                logger.warning("%s: %s: it is made anew", path, torn)
            return False
        ledger.recall(shard.bad)
        self.whole[number] = shard
        self._done += stop - first
        return True

    def _write(self, number: int, shard: _Unfinished) -> EmbeddingShard:
        halves = [[np.empty((0, self._width), np.float16)], [np.empty((0, self._width), np.float16)]]
        for _, vectors in sorted(shard.vectors.items()):
            if len(vectors.image):
                halves[0].append(vectors.image)
                halves[1].append(vectors.text)
        first, stop = self._range(number)
        return write_embedding_shard(
            self._path(number),
            [name for _, name in sorted(shard.ids.items())],
            np.concatenate(halves[0]),
            np.concatenate(halves[1]),
            key=self._inputs.key,
            first=first,
            stop=stop,
            bad=[bad for _, bad in sorted(shard.bad.items())],
        )

    def _range(self, number: int) -> tuple[int, int]:
        return number * self._size, min((number + 1) * self._size, len(self._source))

    def _path(self, number: int) -> Path:
        return self._out / f"shard-{number:05d}.safetensors"

    def _claim(self, number: int) -> str:
        return self._path(number).stem


def clear_unfinished(folder: Path, name: str) -> None:
    """Remove what a killed process left half-written of a file; only while no other process may write it."""
    for left_over in folder.glob(f"{name}.*{TEMPORARY}"):
        left_over.unlink(missing_ok=True)
