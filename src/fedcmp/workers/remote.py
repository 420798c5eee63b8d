"""This process's half of the conversation with one worker: jobs go out as frames, answers come back in their order."""

from collections import deque
from contextlib import suppress

from fedcmp.errors import UserError, WorkerDied, WorkerFailed
from fedcmp.wire.frames import read_frame, write_frame
from fedcmp.workers.jobs import Answer, JobQueue, Ticket
from fedcmp.workers.processes import WorkerPipes


class Remote:
    """One worker process.

    Args:
        worker: its pipes.
        in_flight: jobs that it has at hand at a time.
        died: the message where it has ended, with a place for its exit code, "{code}".
    """

    def __init__(self, worker: WorkerPipes, *, in_flight: int, died: str) -> None:
        self._worker, self._in_flight, self._died = worker, in_flight, died
        self._exit_code: int | None = None

    def serve(self, jobs: JobQueue) -> None:
        """Let the worker do jobs until the queue is closed; what goes wrong goes to who waits for the job."""
        under_way: deque[Ticket] = deque()
        while True:
            while len(under_way) < self._in_flight:
                ticket = jobs.take(wait=not under_way)
                if ticket is None:
                    break
                if self._send(ticket):
                    under_way.append(ticket)
            if not under_way:
                return
            self._receive(under_way.popleft())

    def _send(self, ticket: Ticket) -> bool:
        try:
            header, tensors = ticket.frame()
            with suppress(BrokenPipeError):  # the worker has gone: what it left says how
                write_frame(self._worker.jobs, header, tensors)
        except BaseException as error:
            ticket.fail(error)
            return False
        return True

    def _receive(self, ticket: Ticket) -> None:
        try:
            ticket.finish(self._answer())
        except BaseException as error:
            ticket.fail(error)

    def _answer(self) -> Answer:
        try:
            header, tensors = read_frame(self._worker.results)
        except EOFError as error:
            if self._exit_code is None:
                self._exit_code = self._worker.exit_code()
            raise self._ended() from error
        if "exit_code" in header:
            self._exit_code = header["exit_code"]
            raise self._ended()
        if "user_error" in header:
            raise UserError(header["user_error"])
        if "error" in header:
            raise WorkerFailed(header["error"])
        return Answer(header["result"], tensors)

    def _ended(self) -> WorkerDied:
        return WorkerDied(self._died.format(code="unknown" if self._exit_code is None else self._exit_code))
