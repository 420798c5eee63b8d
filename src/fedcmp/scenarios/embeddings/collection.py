"""Embed a collection: every pair of a source through a dual encoder, once, into shards (`embeddings`).

    EMB/inputs.json    what the shards are made of: key, model, source, max_pixels, shard_size; written first
    key = sha256(format, model's fingerprint, source's fingerprint, max_pixels, shard_size)

Shards are written whole: what a killed command left is checked byte for byte and kept, and the result is the same bytes
for any number of workers and after any kill. One process at a time embeds into a folder; a second one waits for its
turn and finds the work done. On a CPU every worker, also an only one, has one torch thread, for the number of threads
decides the order of sums.

Shapes: n pairs in a shard, E embedding width.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from fedcmp.data.accounts import account_of, log_accounts
from fedcmp.data.building import turn_to_build
from fedcmp.data.features import rejected_pair
from fedcmp.data.images import DEFAULT_MAX_PIXELS
from fedcmp.data.quality import BadPair, BadPairs, Rejected, logger
from fedcmp.data.source import PairSource
from fedcmp.errors import UserError
from fedcmp.model.dual_encoder import DualEncoder
from fedcmp.model.locations import device_of
from fedcmp.scenarios.embeddings.batches import Batch, Embedder, Vectors
from fedcmp.scenarios.embeddings.folder import (
    BAD_PAIRS,
    EmbeddingFolder,
    EmbeddingShard,
    TornEmbeddings,
    bad_id,
    read_embedding_shard,
    write_embedding_shard,
    write_index,
)
from fedcmp.scenarios.embeddings.inputs import EmbeddingInputs, begun_shard_size
from fedcmp.scenarios.embeddings.long_captions import log_long_captions, sample_of
from fedcmp.scenarios.embeddings.pair_files import PairFiles
from fedcmp.scenarios.embeddings.workers import EmbeddingWorkers

SHARD_SIZE = 4096
MODEL_OPTION = "--model"
_MOST_THREADS = 8  # that decode pictures for one model on a GPU
EmbeddingDtype = Literal["auto", "float32", "bfloat16", "float16"]
Progress = Callable[[str, int, int], object]


def embed_collection(
    pairs: PairFiles,
    model: str,
    out: Path,
    *,
    batch_size: int = 64,
    workers: int | None = None,
    dtype: EmbeddingDtype = "auto",
    device: str = "auto",
    shard_size: int | None = None,
    max_bad_fraction: float = 0.01,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    progress: Progress | None = None,
) -> EmbeddingFolder:
    """Write the embeddings of all pairs, or what is still missing of them.

    Args:
        pairs: the collection.
        model: "world", a folder or a hub name of a CLIP- or SigLIP-like dual encoder.
        out: the folder; new, or one that an earlier command with the same inputs began.
        batch_size: pairs a call of the model; changes vectors by rounding only.
        workers: processes; default: one on a GPU, else one a processor, as far as memory allows.
        dtype: of the weights and the arithmetic; "auto": float16 on a GPU, else float32.
        device: "auto" (the first GPU if there is one), "cpu", "cuda", ...
        shard_size: pairs a shard, the unit in which a killed command goes on; default: as the folder was begun, else
            4096.
        max_bad_fraction: share of the pairs that may be bad, records refused on opening the source included.
        max_pixels: see `data.images.decode_image`.
        progress: called with what is done ("checking shards", "embedding pairs"), how much of it, and its total; the
            first call of "embedding pairs" says what is there already.

    Returns:
        The complete embeddings, opened.

    Raises:
        UserError: the source, the model or the device cannot be used; the folder holds other embeddings; too many bad
            pairs, or no good one; vectors that are not finite; files that cannot be written.
        WorkerDied: a worker process ended.
        ValueError: batch_size, workers or shard_size < 1.
    """
    if any(number is not None and number < 1 for number in (batch_size, workers, shard_size)):
        raise ValueError(f"batch_size = {batch_size}, workers = {workers}, shard_size = {shard_size}: at least 1 each")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out}: this folder cannot be made ({error.strerror}): choose another --out") from None
    where = device_of(device)
    on_cpu = where.type == "cpu"
    precision = dtype if dtype != "auto" else "float32" if on_cpu else "float16"
    source = pairs.open()
    log_accounts([account_of(source)])
    with _one_thread(on_cpu):
        here = str(where) if workers in (None, 1) else "cpu"
        encoder = DualEncoder(model, dtype=precision, device=here, key=MODEL_OPTION)
        looked_at = [source.pair(index).caption for index in sample_of(len(source))]
        log_long_captions(encoder, looked_at, source.name)
        inputs = EmbeddingInputs(
            model={"name": model, "fingerprint": encoder.fingerprint(), "dtype": precision},
            source=pairs.describe(source),
            max_pixels=max_pixels,
            shard_size=shard_size or begun_shard_size(out) or SHARD_SIZE,
        )
        inputs.check(out)  # before waiting for a turn; and after it, for another may have begun meanwhile
        with turn_to_build(out):
            inputs.check(out)
            inputs.write(out)
            job = _Job(source, out, inputs, encoder.width, batch_size, progress or (lambda _what, _done, _total: None))
            total = len(source) + len(source.rejected)
            with BadPairs(
                source.name,
                total=total,
                max_bad_fraction=max_bad_fraction,
                log_path=out / BAD_PAIRS,
                setting="--max-bad-fraction",
            ) as ledger:
                for bad in source.rejected:
                    ledger.add(bad)
                todo = job.keep_whole_shards(ledger)
                count = min(workers or _default_workers(encoder, on_cpu), job.count_batches(todo))
                threads = 1 if on_cpu else min(_MOST_THREADS, max(1, _processors() // max(count, 1)))
                if count == 1:
                    embedder = Embedder(encoder, max_pixels=max_pixels, threads=threads)
                    job.embed(enumerate(embedder.embed(job.batches(todo))), ledger)
                elif count > 1:
                    del encoder  # each worker has its own
                    setup: dict[str, Any] = {"model": model, "dtype": precision, "device": str(where)}
                    setup |= {"key": MODEL_OPTION, "max_pixels": max_pixels, "threads": threads}
                    with EmbeddingWorkers(count, setup) as processes:
                        job.embed(processes.run(job.batches(todo)), ledger)
            if not any(shard.rows for shard in job.shards.values()):
                raise UserError(f"{source.name}: none of its {total:,} pairs can be embedded: {ledger.summary()}")
            job.write_index()
    return EmbeddingFolder(out)


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


class _Job:
    """The shards of one collection by one model."""

    def __init__(
        self, source: PairSource, out: Path, inputs: EmbeddingInputs, width: int, batch_size: int, progress: Progress
    ) -> None:
        self._source, self._out, self._inputs, self._width = source, out, inputs, width
        self._batch_size, self._progress = batch_size, progress
        self.shard_size = inputs.shard_size
        self.shards: dict[int, EmbeddingShard] = {}
        self._spans: dict[int, _Span] = {}  # of the batches under way, by their numbers

    def keep_whole_shards(self, ledger: BadPairs) -> list[int]:
        """Check what is there, every byte of it; returns the numbers of the shards that are still to be made."""
        todo = []
        count = -(-len(self._source) // self.shard_size)
        for number in range(count):
            path, (first, stop) = self._path(number), self._range(number)
            try:
                shard, width = read_embedding_shard(path, key=self._inputs.key)
                if (shard.first, shard.stop, width) != (first, stop, self._width):
                    raise TornEmbeddings("holds other pairs")
            except TornEmbeddings as torn:
                if path.exists():
                    logger.warning("%s: %s: it is made anew", path, torn)
                todo.append(number)
            else:
                ledger.recall(shard.bad)
                self.shards[number] = shard
                self._progress("checking shards", number + 1, count)
        return todo

    def count_batches(self, todo: Sequence[int]) -> int:
        """How many batches there are in some shards."""
        ranges = [self._range(shard) for shard in todo]
        return sum(-(-(stop - first) // self._batch_size) for first, stop in ranges)

    def batches(self, todo: Sequence[int]) -> Iterator[Batch]:
        """The batches of some shards, in their order; none holds pairs of two."""
        number = 0
        for shard in todo:
            first, stop = self._range(shard)
            for start in range(first, stop, self._batch_size):
                indices = range(start, min(start + self._batch_size, stop))
                span = _Span(shard, len(indices), {}, {})
                captions = []
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
                self._spans[number] = span
                number += 1
                yield Batch(captions, [partial(self._source.read_image, index) for index in span.ids])

    def embed(self, results: Iterable[tuple[int, Vectors]], ledger: BadPairs) -> None:
        """Write the shards as soon as all their batches are there, which come in any order."""
        unfinished: dict[int, _Unfinished] = {}
        total = len(self._source)
        done = sum(shard.stop - shard.first for shard in self.shards.values())
        self._progress("embedding pairs", done, total)
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
                self.shards[span.shard] = self._write(span.shard, unfinished.pop(span.shard))
            done += span.pairs
            self._progress("embedding pairs", done, total)

    def write_index(self) -> None:
        """Say that the folder is complete."""
        write_index(
            self._out,
            [self.shards[number] for number in sorted(self.shards)],
            width=self._width,
            model=self._inputs.model,
            source=self._inputs.source,
            rejected=self._source.rejected,
        )

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
        return number * self.shard_size, min((number + 1) * self.shard_size, len(self._source))

    def _path(self, number: int) -> Path:
        return self._out / f"shard-{number:05d}.safetensors"


def _default_workers(encoder: DualEncoder, on_cpu: bool) -> int:
    """One a processor, if half of the memory holds as many models."""
    if not on_cpu:
        return 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    model = sum(weight.numel() * weight.element_size() for weight in encoder.model.parameters())
    return max(1, min(_processors(), int(memory // 2 // model)))


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _one_thread(wanted: bool) -> Iterator[None]:
    before = torch.get_num_threads()
    if wanted:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
