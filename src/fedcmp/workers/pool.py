"""A pool of workers: the jobs of all callers go to whichever worker is free, answers go back to who asked.

Workers are processes (`processes`, `child`): frames go through pipes, nothing is pickled. A pool may instead do its
jobs in this process, in one thread. Each worker has a thread here that sends jobs, receives answers and, where a job is
lazy, makes it.
"""

import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Self

from fedcmp.wire.frames import Frame
from fedcmp.workers.jobs import Answer, Job, JobQueue, Stopped, Ticket
from fedcmp.workers.processes import WorkerProcesses
from fedcmp.workers.remote import Remote

_WAIT_SECONDS = 0.2  # until a caller looks again whether the pool was closed


@dataclass(frozen=True)
class Here:
    """What does jobs in this process.

    Attributes:
        do: from jobs' frames to their results, in their order.
        most: how many it may get at a time.
        alone: whether a job must be the only one that it gets.
    """

    do: Callable[[Sequence[Frame]], Sequence[Frame]]
    most: int = 1
    alone: Callable[[Job], bool] = lambda _job: False

    def serve(self, jobs: JobQueue) -> None:
        """Do jobs until the queue is closed; what goes wrong goes to who waits for the job."""
        while tickets := jobs.take_several(self.most, self.alone):
            try:
                answers = [Answer(*frame) for frame in self.do([ticket.frame() for ticket in tickets])]
            except BaseException as error:
                for ticket in tickets:
                    ticket.fail(error)
            else:
                while tickets:  # nothing here may hold an answer that its caller has taken
                    tickets.pop(0).finish(answers.pop(0))


class Pool:
    """Workers and the queue in front of them; use as a context manager. Threads may use one pool side by side.

    Args:
        processes: the workers; the pool ends them.
        died: the message where a worker has ended, with a place for its exit code, "{code}".
        in_flight: jobs that a worker has at hand at a time: more than one where it begins the next ones meanwhile.
        here: does jobs in this process.
    """

    def __init__(self, processes: WorkerProcesses, *, died: str, in_flight: int = 1, here: Here | None = None) -> None:
        self._processes = processes
        self._queue = JobQueue()
        loops = [Remote(worker, in_flight=in_flight, died=died).serve for worker in processes.all]
        if here is not None:
            loops.append(here.serve)
        most_here = 0 if here is None else here.most
        # jobs that are done at a time, and with those that wait: no worker waits while a caller folds in an answer
        self._busy = in_flight * len(processes.all) + most_here
        self._ahead = self._busy + len(processes.all) + most_here
        self._threads = [threading.Thread(target=loop, args=(self._queue,), daemon=True) for loop in loops]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop: jobs under way are abandoned, waiting callers get Stopped."""
        self._queue.close()
        self._processes.end()
        for thread in self._threads:  # no thread may be inside torch when the interpreter ends
            thread.join()

    def check_stop(self) -> None:
        """Raise Stopped if the pool was closed."""
        if self._queue.closed:
            raise Stopped

    def one_by_one(self) -> "Submissions":
        """Return a caller's place for jobs that it does not know from the start."""
        return Submissions(self._queue, self.check_stop)

    def map(self, jobs: Iterable[Job]) -> Iterator[Answer]:
        """Do all jobs; answers come in the jobs' order, each as soon as it and those before it are there.

        All jobs are taken at once, and answers that are early wait in memory: for jobs with small ones.

        Raises:
            UserError: what a worker found wrong.
            WorkerDied: a worker process ended.
            WorkerFailed: a worker met what is no user's mistake.
            Stopped: the pool was closed.
        """
        early: dict[int, Ticket] = {}
        following = 0
        with closing(self._ended(jobs, None, None)) as tickets:
            for ticket in tickets:
                early[ticket.index] = ticket
                while following in early:
                    yield early.pop(following).take()
                    following += 1

    def as_completed(
        self,
        jobs: Iterable[Job],
        *,
        may_start: Callable[[], bool] | None = None,
        until: float | None = None,
    ) -> Iterator[tuple[int, Answer]]:
        """Do all jobs; each answer comes with its job's place among them as soon as it is there.

        Jobs are taken as workers become free, so that memory does not grow with their number: never more than one per
        worker besides those under way wait for a worker or, done, for the caller to take their answer.

        Args:
            jobs: in the order in which they are begun.
            may_start: asked before each job but the first ones, one per free worker; after a no, no more are begun and
                those under way are waited for. No job waits for a worker then.
            until: time.monotonic() at which answers are no longer waited for: other jobs are given up.

        Raises:
            UserError, WorkerDied, WorkerFailed, Stopped: as `map`; the caller's other jobs are given up.
        """
        most = self._ahead if may_start is None else self._busy
        with closing(self._ended(jobs, most, may_start, until)) as tickets:
            for ticket in tickets:
                yield ticket.index, ticket.take()

    def _ended(
        self,
        jobs: Iterable[Job],
        most: int | None,
        may_start: Callable[[], bool] | None,
        until: float | None = None,
    ) -> Generator[Ticket, None, None]:
        """Each job's ticket as it ends; `most` of them wait or are under way at a time, None: all."""
        ended: queue.SimpleQueue[Ticket] = queue.SimpleQueue()
        under_way: dict[int, Ticket] = {}
        numbered = enumerate(jobs)
        begun, more = 0, True

        def begin() -> None:
            nonlocal begun, more
            while more and (most is None or len(under_way) < most):
                following = None
                if may_start is None or begun < self._busy or may_start():
                    following = next(numbered, None)
                if following is None:
                    more = False
                    return
                ticket = Ticket(*following, ended)
                self._queue.put(ticket)
                under_way[ticket.index] = ticket
                begun += 1

        try:
            begin()
            while under_way:
                ticket = self._next(ended, until)
                if ticket is None:
                    return
                del under_way[ticket.index]
                begin()
                yield ticket
        finally:
            for ticket in under_way.values():
                ticket.cancelled = True

    def _next(self, ended: "queue.SimpleQueue[Ticket]", until: float | None) -> Ticket | None:
        return _next_ended(ended, until, self.check_stop)


class Submissions:
    """Jobs that one caller hands in one by one, each as soon as it is known; made by Pool.one_by_one.

    Args:
        jobs: the pool's queue.
        check_stop: raises Stopped where the pool was closed.
    """

    def __init__(self, jobs: JobQueue, check_stop: Callable[[], None]) -> None:
        self._queue, self._check_stop = jobs, check_stop
        self._ended: queue.SimpleQueue[Ticket] = queue.SimpleQueue()

    def submit(self, number: int, job: Job) -> None:
        """Let a job wait for a worker; its answer will come with this number.

        Raises:
            Stopped: the pool was closed.
        """
        self._queue.put(Ticket(number, job, self._ended))

    def next(self, until: float | None = None) -> tuple[int, Answer] | None:
        """Return the number and the answer of the job that ends next; one that has ended is returned at once.

        Args:
            until: time.monotonic() at which waiting ends, with None; it may have passed already.

        Raises:
            UserError, WorkerDied, WorkerFailed, Stopped: as Pool.map.
        """
        ticket = None
        with suppress(queue.Empty):
            ticket = self._ended.get_nowait()
        ticket = ticket or _next_ended(self._ended, until, self._check_stop)
        return None if ticket is None else (ticket.index, ticket.take())


def _next_ended(
    ended: "queue.SimpleQueue[Ticket]", until: float | None, check_stop: Callable[[], None]
) -> Ticket | None:
    while until is None or time.monotonic() < until:
        ticket = None
        with suppress(queue.Empty):
            ticket = ended.get(timeout=_WAIT_SECONDS)
        check_stop()  # also where there is one: what ends workers is then no job's failure
        if ticket is not None:
            return ticket
    return None
