"""The loop of a worker process: `python -m fedcmp.workers.child HANDLER ARGUMENT... JOBS:RESULTS[,...]`.

HANDLER names a factory, "module:callable": called with the arguments at the first job, it returns what does the jobs. A
worker reads a frame per job from its open pipe JOBS and answers each on RESULTS, in the order of the jobs, by

    {"result": header}, tensors     the job's result
    {"user_error": message}         the user's mistake, or what the machine ran out of
    {"error": traceback}            anything else

With one pair of pipes the process is the worker. With several it loads the handler's libraries, splits into a worker
for each pair, and reports with what exit code one ended ({"exit_code": code}). A worker ends at once when its jobs end,
hence also in the middle of a job when the process that started it is killed. On Linux the system ends it even then: a
library's code may hold Python's lock for seconds.
"""

import importlib
import os
import queue
import signal
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import IO, TYPE_CHECKING, NoReturn

from fedcmp.errors import UserError, shortage
from fedcmp.terminal import log_to_stderr
from fedcmp.workers.parent import end_with_parent

if TYPE_CHECKING:  # torch is loaded after standard output has been moved
    from fedcmp.wire.frames import Frame
    from fedcmp.workers.jobs import Handler

    Frames = queue.SimpleQueue[Frame]


def main() -> None:
    """Serve jobs until there are no more."""
    end_with_parent()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # sent to all of a job's processes: the command ends its workers
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # a library's print is not for the command's standard output
    name, *arguments, pairs = sys.argv[1:]
    pipes = [(int(jobs), int(results)) for jobs, results in (pair.split(":") for pair in pairs.split(","))]

    import torch
    from transformers.utils import logging

    module, _, function = name.partition(":")
    factory = getattr(importlib.import_module(module), function)  # all libraries are loaded before the process is split
    log_to_stderr()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(1)

    def make() -> "Handler":
        handler: Handler = factory(*arguments)
        return handler

    if len(pipes) == 1:
        _serve(make, *pipes[0])
    else:
        _split(make, pipes)


def _split(make: "Callable[[], Handler]", pipes: list[tuple[int, int]]) -> None:
    """Become one worker for each pair of pipes, and report how each of them ended."""
    from fedcmp.wire.frames import write_frame

    workers: dict[int, int] = {}
    for jobs, results in pipes:
        worker = os.fork()
        if worker == 0:
            end_with_parent()
            for other in {end for pair in pipes for end in pair} - {jobs, results}:
                with suppress(OSError):  # closed by the first process already
                    os.close(other)
            _serve(make, jobs, results)
        os.close(jobs)
        workers[worker] = results
    while workers:
        worker, status = os.wait()
        with suppress(BrokenPipeError), os.fdopen(workers.pop(worker), "wb") as stream:
            write_frame(stream, {"exit_code": os.waitstatus_to_exitcode(status)}, {})


def _serve(make: "Callable[[], Handler]", jobs_end: int, results_end: int) -> NoReturn:
    """Do jobs, and end the process: what Python does at its exit is not the worker's, which other threads still use."""
    jobs: Frames = queue.SimpleQueue()
    threading.Thread(target=_read_all, args=(os.fdopen(jobs_end, "rb"), jobs), daemon=True).start()
    try:
        _answer_all(make, jobs, os.fdopen(results_end, "wb"))
    except BrokenPipeError:  # nobody waits for results: the process that started this one was killed
        os._exit(0)
    except BaseException:
        _end_by_error()


def _read_all(stream: IO[bytes], jobs: "Frames") -> NoReturn:
    """Read on while a job is done: whoever sends the next one never waits for ever, and the end is noticed at once."""
    from fedcmp.wire.frames import read_frame

    try:
        while True:
            jobs.put(read_frame(stream))
    except EOFError:
        os._exit(0)
    except BaseException:
        _end_by_error()


def _end_by_error() -> NoReturn:
    traceback.print_exc()
    sys.stderr.flush()
    os._exit(1)


def _answer_all(make: "Callable[[], Handler]", jobs: "Frames", results: IO[bytes]) -> NoReturn:
    from fedcmp.wire.frames import write_frame

    handler: Handler | None = None

    def begin(job: "Frame") -> "Frame | Callable[[], Frame]":
        nonlocal handler
        try:
            if handler is None:
                handler = make()
            outcome = handler(*job)
            return outcome if callable(outcome) else _result(outcome)
        except Exception as error:
            return _problem(error)

    begun: deque[Frame | Callable[[], Frame]] = deque()
    while True:
        if not begun:
            begun.append(begin(jobs.get()))
        while callable(begun[0]) and not jobs.empty():
            begun.append(begin(jobs.get()))
        write_frame(results, *_finished(begun.popleft()))


def _finished(begun: "Frame | Callable[[], Frame]") -> "Frame":
    if not callable(begun):
        return begun
    try:
        return _result(begun())
    except Exception as error:
        return _problem(error)


def _result(frame: "Frame") -> "Frame":
    header, tensors = frame
    return {"result": header}, tensors


def _problem(error: Exception) -> "Frame":
    """Describe what went wrong: it is reported by the command, in one place."""
    if isinstance(error, UserError):
        return {"user_error": str(error)}, {}
    if (short := shortage(error)) is not None:
        return {"user_error": short}, {}
    return {"error": "".join(traceback.format_exception(error))}, {}


if __name__ == "__main__":
    main()
