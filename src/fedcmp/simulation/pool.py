"""Workers and the queue in front of them: jobs of all methods go to whichever worker is free.

With one worker, jobs run in this process. With more, each worker is a process of its own with one torch thread; frames
go through pipes (frames.py), nothing is pickled. Ranks that a launcher started are one worker together (crew.py).
"""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedcmp.config import Recipe, dump_recipe
from fedcmp.errors import UserError, WorkerDied, WorkerFailed
from fedcmp.files import write_whole
from fedcmp.simulation.crew import TOGETHER, Crew
from fedcmp.simulation.engine import Engine, Job
from fedcmp.simulation.processes import WorkerPipes, WorkerProcesses
from fedcmp.simulation.worker import WORKER_RECIPE
from fedcmp.wire.frames import read_frame, write_frame
from fedcmp.wire.naming import Tensors


class Stopped(Exception):  # noqa: N818 - says what happened
    """The pool was closed while a job was waiting."""


@dataclass
class Answer:
    """A job's result.

    Attributes:
        result: plain values.
        tensors: named tensors.
    """

    result: dict[str, Any]
    tensors: Tensors

    @property
    def seconds(self) -> float:
        """The worker's time for the job, loading the model not counted."""
        return float(self.result["seconds"])


@dataclass
class _Ticket:
    job: Job
    tensors: Tensors
    done: threading.Event = field(default_factory=threading.Event)
    answer: Answer | None = None
    error: BaseException | None = None


class Pool:
    """`workers` workers for one run; use as a context manager.

    Args:
        recipe: the run.
        prepared: the run's `prepared/` folder.
        crew: the ranks that are the one worker, whatever the recipe says of workers.
        processes: the workers, where they were started ahead; the pool ends them.
    """

    def __init__(
        self, recipe: Recipe, prepared: Path, *, crew: Crew | None = None, processes: WorkerProcesses | None = None
    ) -> None:
        write_whole(prepared / WORKER_RECIPE, dump_recipe(recipe).encode())
        self._queue: queue.Queue[_Ticket | None] = queue.Queue()
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        count = recipe.run.workers if crew is None else 0
        self._processes = processes or WorkerProcesses(count, prepared)
        if crew is not None:
            self._begin(self._serve_by_ranks, crew, prepared)
        elif count == 1:
            self._begin(self._serve, _InProcess(recipe, prepared, self._check_stop))
        for worker in self._processes.all:
            self._begin(self._serve, _Remote(worker))

    def _begin(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        thread.start()
        self._threads.append(thread)

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop: jobs under way are abandoned, waiting callers get Stopped."""
        self._stopping.set()
        for _ in self._threads:
            self._queue.put(None)
        self._processes.end()
        for thread in self._threads:  # no thread may be inside torch when the interpreter ends
            thread.join()

    def _check_stop(self) -> None:
        if self._stopping.is_set():
            raise Stopped

    def map(self, jobs: Sequence[tuple[Job, Tensors]]) -> Iterator[Answer]:
        """Results in the jobs' order, each as soon as it and those before it are there.

        Raises:
            UserError: what a worker found wrong.
            WorkerDied: a worker process ended.
            Stopped: the pool was closed.
        """
        tickets = [_Ticket(job, tensors) for job, tensors in jobs]
        for ticket in tickets:
            self._queue.put(ticket)
        while tickets:
            ticket = tickets.pop(0)  # popped, so that a folded-in update can be freed
            while not ticket.done.wait(0.2):
                if self._stopping.is_set():
                    raise Stopped
            if ticket.error is not None:
                raise ticket.error
            assert ticket.answer is not None
            yield ticket.answer

    def as_completed(
        self, jobs: Iterable[tuple[Job, Tensors]], *, until: float | None = None
    ) -> Iterator[tuple[int, Answer]]:
        """TEMPORARY."""
        for number, answer in enumerate(self.map(list(jobs))):
            yield number, answer

    def _serve(self, serve: Callable[[_Ticket], Answer]) -> None:
        while (ticket := self._queue.get()) is not None:
            if self._stopping.is_set():
                return
            try:
                ticket.answer = serve(ticket)
            except BaseException as error:
                ticket.error = error
            ticket.tensors = {}
            ticket.done.set()

    def _serve_by_ranks(self, crew: Crew, prepared: Path) -> None:
        opened = False
        while tickets := self._next(crew.group.size):
            if self._stopping.is_set():
                return
            try:
                if not opened:
                    crew.open(prepared, self._check_stop)
                    opened = True
                answers = crew.run([(ticket.job, ticket.tensors) for ticket in tickets])
                for ticket, answer in zip(tickets, answers, strict=True):
                    ticket.answer = Answer(*answer)
            except BaseException as error:
                for ticket in tickets:
                    ticket.error = error
            for ticket in tickets:
                ticket.tensors = {}
                ticket.done.set()

    def _next(self, most: int) -> list[_Ticket]:
        """The next job of all ranks, or up to `most` that are one rank's; none at the end. There is one caller."""
        first = self._queue.get()
        if first is None:
            return []
        tickets = [first]
        while first.job["op"] not in TOGETHER and len(tickets) < most:
            with self._queue.mutex:
                waiting = self._queue.queue[0] if self._queue.queue else None
            if waiting is None or waiting.job["op"] in TOGETHER:
                break
            self._queue.get()
            tickets.append(waiting)
        return tickets


class _InProcess:
    def __init__(self, recipe: Recipe, prepared: Path, on_step: Callable[[], None]) -> None:
        self._recipe, self._prepared, self._on_step = recipe, prepared, on_step
        self._engine: Engine | None = None

    def __call__(self, ticket: _Ticket) -> Answer:
        if self._engine is None:
            self._engine = Engine(self._recipe, self._prepared, on_step=self._on_step)
        return Answer(*self._engine.run(ticket.job, ticket.tensors))


class _Remote:
    def __init__(self, worker: WorkerPipes) -> None:
        self._worker = worker

    def __call__(self, ticket: _Ticket) -> Answer:
        with suppress(BrokenPipeError):  # the worker has gone: what it left says how
            write_frame(self._worker.jobs, ticket.job, ticket.tensors)
        try:
            header, tensors = read_frame(self._worker.results)
        except EOFError as error:
            raise _died(self._worker.exit_code()) from error
        if "exit_code" in header:
            raise _died(header["exit_code"])
        if "user_error" in header:
            raise UserError(header["user_error"])
        if "error" in header:
            raise WorkerFailed(header["error"])
        return Answer(header["result"], tensors)


def _died(code: int | None) -> WorkerDied:
    told = "unknown" if code is None else code
    return WorkerDied(
        f"a worker ended in the middle of a job (exit code {told}; -9 is often the system running out of "
        "memory: use fewer workers); the run can be resumed with --resume"
    )
