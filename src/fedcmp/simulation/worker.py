"""Workers: `python -m fedcmp.simulation.worker PREPARED JOBS:RESULTS ...`, a pair of open pipes for each.

With one pair the process is the worker; with several it loads the libraries, splits into a worker for each, and tells
with what exit code one ended. A worker ends when its jobs end, hence also when the run is killed.
"""

import os
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import IO

from fedcmp.errors import UserError

WORKER_RECIPE = "worker.toml"  # in the prepared folder; written at every start, as workers and cache may differ


def main() -> None:
    """Serve jobs until there are no more."""
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # standard output is the run's own: a library's print is not
    prepared = Path(sys.argv[1])
    pipes = [(int(jobs), int(results)) for jobs, results in (pair.split(":") for pair in sys.argv[2:])]

    import torch
    from transformers.utils import logging

    from fedcmp.simulation import engine  # noqa: F401 - loaded before the process is split

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    if len(pipes) == 1:
        _serve(prepared, *pipes[0])
    else:
        _split(prepared, pipes)


def _split(prepared: Path, pipes: list[tuple[int, int]]) -> None:
    """Become one worker for each pair of pipes, and tell how each of them ended."""
    from fedcmp.wire.frames import write_frame

    workers: dict[int, int] = {}
    for jobs, results in pipes:
        worker = os.fork()
        if worker == 0:
            for other in {end for pair in pipes for end in pair} - {jobs, results}:
                with suppress(OSError):  # closed by the first process already
                    os.close(other)
            code = 1
            try:
                _serve(prepared, jobs, results)
                code = 0
            except BaseException:
                traceback.print_exc()
            os._exit(code)  # what the first process does at its exit is not the worker's
        os.close(jobs)
        workers[worker] = results
    while workers:
        worker, status = os.wait()
        with suppress(BrokenPipeError), os.fdopen(workers.pop(worker), "wb") as stream:
            write_frame(stream, {"exit_code": os.waitstatus_to_exitcode(status)}, {})


def _serve(prepared: Path, jobs_end: int, results_end: int) -> None:
    with os.fdopen(jobs_end, "rb") as jobs, os.fdopen(results_end, "wb") as results, suppress(BrokenPipeError):
        _answer_all(prepared, jobs, results)


def _answer_all(prepared: Path, jobs: IO[bytes], results: IO[bytes]) -> None:
    import torch

    from fedcmp.config import read_dumped
    from fedcmp.simulation.engine import Engine
    from fedcmp.wire.frames import read_frame, write_frame

    engine: Engine | None = None
    while True:
        try:
            job, tensors = read_frame(jobs)
        except EOFError:
            return
        answer: dict[str, object]
        out: dict[str, torch.Tensor] = {}
        try:
            if engine is None:
                engine = Engine(read_dumped(prepared / WORKER_RECIPE), prepared)
            result, out = engine.run(job, tensors)
            answer = {"result": result}
        except UserError as error:
            answer = {"user_error": str(error)}
        except Exception:  # told by the run, in one place
            answer = {"error": traceback.format_exc()}
        write_frame(results, answer, out)


if __name__ == "__main__":
    main()
