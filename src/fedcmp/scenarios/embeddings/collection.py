"""Embed a collection: every pair of a source through a dual encoder, once, into shards (`embeddings`).

    EMB/inputs.json    what the shards are made of: key, model, source, max_pixels, shard_size; written first
    key = sha256(format, model's fingerprint, source's fingerprint, max_pixels, shard_size)

Shards are written whole: what a killed command left is checked byte for byte and kept, and the result is the same bytes
for any number of workers, of processes that embed into the folder side by side, on one machine or several
(`collection_shards`), and after any kill. On a CPU every worker, also an only one, has one torch thread, for the number
of threads decides the order of sums.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch

from fedcmp.data.accounts import account_of, log_accounts
from fedcmp.data.images import DEFAULT_MAX_PIXELS
from fedcmp.data.quality import BadPairs
from fedcmp.errors import UserError
from fedcmp.locks import Claims
from fedcmp.model.dual_encoder import DualEncoder
from fedcmp.model.locations import device_of
from fedcmp.scenarios.embeddings.batches import Embedder
from fedcmp.scenarios.embeddings.collection_shards import CollectionShards, Progress, clear_unfinished
from fedcmp.scenarios.embeddings.folder import BAD_PAIRS, EmbeddingFolder
from fedcmp.scenarios.embeddings.inputs import INPUTS, EmbeddingInputs, begun_shard_size
from fedcmp.scenarios.embeddings.long_captions import log_long_captions, sample_of
from fedcmp.scenarios.embeddings.pair_files import PairFiles
from fedcmp.scenarios.embeddings.workers import EmbeddingWorkers

SHARD_SIZE = 4096
MODEL_OPTION = "--model"
_MOST_THREADS = 8  # that decode pictures for one model on a GPU
EmbeddingDtype = Literal["auto", "float32", "bfloat16", "float16"]


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
        inputs.check(out)  # before anything is written; and with the claim, for another may have begun meanwhile
        with Claims(out / "claims") as claims:
            with claims.turn(INPUTS):
                inputs.check(out)
                clear_unfinished(out, INPUTS)
                inputs.write(out)
            shards = CollectionShards(
                source, out, inputs, encoder.width, batch_size, claims, progress or (lambda _what, _done, _total: None)
            )
            total = len(source) + len(source.rejected)
            with BadPairs(
                source.name,
                total=total,
                max_bad_fraction=max_bad_fraction,
                log_path=out / BAD_PAIRS if claims.take(BAD_PAIRS) else None,  # one process names them while it goes on
                setting="--max-bad-fraction",
            ) as ledger:
                for bad in source.rejected:
                    ledger.add(bad)
                shards.check(ledger)
                count = min(workers or _default_workers(encoder, on_cpu), shards.count_batches())
                threads = 1 if on_cpu else min(_MOST_THREADS, max(1, _processors() // max(count, 1)))
                if count == 1:
                    embedder = Embedder(encoder, max_pixels=max_pixels, threads=threads)
                    shards.make(lambda batches: enumerate(embedder.embed(batches)), ledger)
                elif count > 1:
                    del encoder  # each worker has its own
                    setup: dict[str, Any] = {"model": model, "dtype": precision, "device": str(where)}
                    setup |= {"key": MODEL_OPTION, "max_pixels": max_pixels, "threads": threads}
                    with EmbeddingWorkers(count, setup) as processes:
                        shards.make(processes.run, ledger)
            if not any(shard.rows for shard in shards.whole.values()):
                raise UserError(f"{source.name}: none of its {total:,} pairs can be embedded: {ledger.summary()}")
            shards.write_index()
    return EmbeddingFolder(out)


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
