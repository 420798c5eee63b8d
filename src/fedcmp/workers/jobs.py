"""Jobs that wait for a worker: what a job is, what does it, its answer, and the queue that a pool's callers share."""

import queue
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from fedcmp.wire.frames import Frame, Header, Tensors

# does jobs: returns a result, or what computes it in its turn: then the next jobs may be begun meanwhile, in threads
Handler = Callable[[Header, Tensors], Frame | Callable[[], Frame]]
Job = Frame | Callable[[], Frame]  # a callable makes the frame in the thread of the worker that does the job


class Stopped(Exception):  # noqa: N818 - says what happened
    """The pool was closed while a job was waiting."""


@dataclass
class Answer:
    """A job's result.

    Attributes:
        result: plain values.
        tensors: named tensors.
    """

    result: Header
    tensors: Tensors

    @property
    def seconds(self) -> float:
        """The worker's time for the job, loading the model not counted."""
        return float(self.result["seconds"])


class Ticket:
    """A job on its way; it holds the job until that is done, and the answer until that is taken.

    Attributes:
        index: the job's place among its caller's.
        cancelled: nobody waits for it any more.
    """

    def __init__(self, index: int, job: Job, ended: "queue.SimpleQueue[Ticket]") -> None:
        self.index, self.cancelled = index, False
        self._job: Job | None = job
        self._ended = ended
        self._answer: Answer | None = None
        self._error: BaseException | None = None

    @property
    def job(self) -> Job:
        """The job, which is not done yet."""
        assert self._job is not None
        return self._job

    def frame(self) -> Frame:
        """Return the job's frame, made now if the job is lazy."""
        return self.job() if callable(self.job) else self.job

    def finish(self, answer: Answer) -> None:
        """Hand the answer to the caller."""
        self._answer, self._job = answer, None
        self._ended.put(self)

    def fail(self, error: BaseException) -> None:
        """Let `take` raise an error."""
        self._error, self._job = error, None
        self._ended.put(self)

    def take(self) -> Answer:
        """Return the answer, which is held here no longer, or raise what went wrong."""
        if self._error is not None:
            raise self._error
        answer, self._answer = self._answer, None
        assert answer is not None
        return answer


class JobQueue:
    """First come, first served; any number of threads on either side."""

    def __init__(self) -> None:
        self._waiting: deque[Ticket] = deque()
        self._changed = threading.Condition()
        self.closed = False

    def put(self, ticket: Ticket) -> None:
        """Let a job wait.

        Raises:
            Stopped: the queue is closed.
        """
        with self._changed:
            if self.closed:
                raise Stopped
            self._waiting.append(ticket)
            self._changed.notify()

    def take(self, *, wait: bool = True) -> Ticket | None:
        """Take the next job; None once the queue is closed, and where there is none and `wait` is not set."""
        with self._changed:
            while True:
                while self._waiting and not self.closed:
                    ticket = self._waiting.popleft()
                    if not ticket.cancelled:
                        return ticket
                if self.closed or not wait:
                    return None
                self._changed.wait()

    def take_several(self, most: int, alone: Callable[[Job], bool]) -> list[Ticket]:
        """Take the next job if it is done alone, else up to `most` that are not; none once the queue is closed.

        Only one thread may call this, and then no other may call `take`.
        """
        first = self.take()
        tickets = [] if first is None else [first]
        while tickets and not alone(tickets[0].job) and len(tickets) < most:
            with self._changed:
                while self._waiting and self._waiting[0].cancelled:
                    self._waiting.popleft()
                if not self._waiting or alone(self._waiting[0].job):
                    break
                tickets.append(self._waiting.popleft())
        return tickets

    def close(self) -> None:
        """Let all who wait for jobs go."""
        with self._changed:
            self.closed = True
            self._changed.notify_all()
