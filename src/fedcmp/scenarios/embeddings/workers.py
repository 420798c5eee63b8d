"""Processes that embed batches side by side, one torch thread each; batches go to whichever is free.

Image files are read here, in one thread per worker, so that the collection is opened once. Results are the same for any
number of workers: a batch's vectors depend on nothing but the batch.
"""

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

from fedcmp.scenarios.embeddings.batches import IN_FLIGHT, Batch, Vectors, frame_of_batch, vectors_from
from fedcmp.workers.pool import Pool
from fedcmp.workers.processes import WorkerProcesses

_HANDLER = "fedcmp.scenarios.embeddings.handler:serve_batches"
_DIED = (
    "a worker ended in the middle of its work (exit code {code}; -9 is often the system running out of memory: use "
    "fewer workers or a smaller batch size); what is embedded is kept: give the same command again"
)


class EmbeddingWorkers(Pool):
    """`count` worker processes; use as a context manager: leaving it stops them at once.

    Args:
        count: of processes.
        setup: model, dtype, device, key (of `DualEncoder`), max_pixels and threads (of `Embedder`).
    """

    def __init__(self, count: int, setup: dict[str, Any]) -> None:
        # the command has the model by now: all workers load what it loaded
        self.processes = WorkerProcesses(count, _HANDLER, [json.dumps(setup)], variables={"HF_HUB_OFFLINE": "1"})
        super().__init__(self.processes, died=_DIED, in_flight=IN_FLIGHT)

    def run(self, batches: Iterator[Batch]) -> Iterator[tuple[int, Vectors]]:
        """Embed batches; each comes back with its place among them as soon as it is done, in any order.

        Raises:
            UserError: what a worker found wrong.
            WorkerDied: a process ended in the middle of a batch.
            WorkerFailed: a worker met what is no user's mistake.
        """
        for number, answer in self.as_completed(partial(frame_of_batch, batch) for batch in batches):
            yield number, vectors_from(answer.result, answer.tensors)
