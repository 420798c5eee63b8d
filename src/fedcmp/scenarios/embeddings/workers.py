"""Processes that embed batches side by side, one torch thread each; batches go to whichever is free.

Pictures' files are read here, in one thread a worker, so that the collection is opened once. Results are the same for
any number of workers: a batch's vectors depend on nothing but the batch.
"""

import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

from fedcmp.errors import UserError, WorkerDied, WorkerFailed
from fedcmp.scenarios.embeddings.batches import IN_FLIGHT, Batch, Vectors, receive, send, send_batch, vectors_from
from fedcmp.wire.environment import worker_variables


@dataclass(frozen=True)
class _Ended:
    """A worker has no more to do; why, if that is a failure."""

    error: BaseException | None = None


class EmbeddingWorkers:
    """`count` worker processes; use as a context manager: leaving it stops them at once.

    Args:
        count: of processes.
        setup: model, dtype, device, key (of `DualEncoder`), max_pixels and threads (of `Embedder`).
    """

    def __init__(self, count: int, setup: dict[str, Any]) -> None:
        self._setup = setup
        self._lock = threading.Lock()
        self._results: queue.Queue[tuple[int, Vectors] | _Ended] = queue.Queue()
        self._threads: list[threading.Thread] = []
        command = [sys.executable, "-m", "fedcmp.scenarios.embeddings.worker"]
        # the command has the model by now: all workers load what it loaded
        environment = worker_variables() | {"HF_HUB_OFFLINE": "1"}
        self.processes = [
            # a process group of its own: a terminal's Ctrl-C is the command's to handle
            subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment,
                process_group=0,
            )
            for _ in range(count)
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait()
        for thread in self._threads:
            thread.join()
        for process in self.processes:
            for stream in (process.stdin, process.stdout):
                assert stream is not None
                with suppress(OSError):  # what is still to be written has no reader
                    stream.close()

    def run(self, batches: Iterator[Batch]) -> Iterator[tuple[int, Vectors]]:
        """Embed batches; each comes back with its place among them as soon as it is done, in any order.

        Raises:
            UserError: what a worker found wrong.
            WorkerDied: a process ended in the middle of a batch.
            WorkerFailed: a worker met what is no user's mistake.
        """
        numbered = enumerate(batches)
        self._threads = [
            threading.Thread(target=self._serve, args=(process, numbered), daemon=True) for process in self.processes
        ]
        for thread in self._threads:
            thread.start()
        busy = len(self._threads)
        while busy:
            result = self._results.get()
            if not isinstance(result, _Ended):
                yield result
            elif result.error is not None:
                raise result.error
            else:
                busy -= 1

    def _serve(self, process: "subprocess.Popen[bytes]", numbered: "enumerate[Batch]") -> None:
        try:
            self._feed(process, numbered)
            self._results.put(_Ended())
        except (EOFError, BrokenPipeError) as error:
            code = process.wait()
            died = WorkerDied(
                f"a worker ended in the middle of its work (exit code {code}; -9 is often the system running out of "
                "memory: use fewer workers or a smaller batch size); what is embedded is kept: give the same command "
                "again"
            )
            died.__cause__ = error
            self._results.put(_Ended(died))
        except BaseException as error:  # raised again by run
            self._results.put(_Ended(error))

    def _feed(self, process: "subprocess.Popen[bytes]", numbered: "enumerate[Batch]") -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        send(process.stdin, self._setup)
        under_way: deque[int] = deque()
        more = True
        while more or under_way:
            while more and len(under_way) < IN_FLIGHT:
                with self._lock:
                    following = next(numbered, None)
                if following is None:
                    more = False
                    send(process.stdin, {})
                else:
                    number, batch = following
                    send_batch(process.stdin, batch)
                    under_way.append(number)
            if under_way:
                header, content = receive(process.stdout)
                if "user_error" in header:
                    raise UserError(header["user_error"])
                if "error" in header:
                    raise WorkerFailed(header["error"])
                self._results.put((under_way.popleft(), vectors_from(header, content)))
