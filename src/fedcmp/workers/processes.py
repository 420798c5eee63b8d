"""Worker processes, started before their libraries are needed.

Loading torch and transformers takes a worker seconds of one core. Where a process may be split, one process loads them
once and splits into the workers, which then share that memory; elsewhere each worker loads them for itself.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Self

# a library may ask a GPU's driver something while it is loaded; a process that is split after that cannot use the GPU
_DRIVERS = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/kfd", "/dev/dxg", "/dev/accel")
# one of several processes that compute at a time has one thread
_VARIABLES = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "TOKENIZERS_PARALLELISM": "false",
}


class WorkerPipes:
    """This process's side of one worker.

    Attributes:
        jobs: frames to the worker.
        results: frames from it; a last one, {"exit_code": ...}, where it ended by itself.
        process: the worker, or the process that it was split from.
    """

    def __init__(self, jobs: IO[bytes], results: IO[bytes], process: "subprocess.Popen[bytes]") -> None:
        self.jobs, self.results, self.process = jobs, results, process

    def exit_code(self) -> int | None:
        """Return the exit code of a worker that left no last frame.

        None where it was split from a process that is still there.
        """
        try:
            return self.process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            return None


class WorkerProcesses:
    """Several worker processes that do the same kind of job; use as a context manager: leaving it ends them.

    They load their libraries as soon as they are started, and call the handler's factory with their first job. They end
    with the thread that starts them, at the latest.

    Args:
        count: the number of workers.
        handler: "module:callable", the factory of what does the jobs (see `child`).
        arguments: the factory's arguments.
        variables: set in the workers' environment.
        split: let one process load the libraries and split into the workers; default: where that is safe.
    """

    def __init__(
        self,
        count: int,
        handler: str,
        arguments: Sequence[str] = (),
        *,
        variables: Mapping[str, str] | None = None,
        split: bool | None = None,
    ) -> None:
        self.all: list[WorkerPipes] = []
        if count:
            command = [sys.executable, "-m", "fedcmp.workers.child", handler, *arguments]
            environment = {**os.environ, **_VARIABLES, **(variables or {})}
            together = can_split() if split is None else split
            for workers in [count] if together else [1] * count:
                self.all += _start(command, environment, workers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """End them at once, whatever they do."""
        processes = {id(worker.process): worker.process for worker in self.all}.values()
        for process in processes:
            if process.returncode is None:  # one that has ended keeps its group's number until it is waited for
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        for process in processes:
            process.wait()
        for worker in self.all:
            with suppress(OSError):  # those of a process that had ended by itself may still wait for jobs
                worker.jobs.close()


def can_split() -> bool:
    """Return whether a process that has loaded torch can be split: on Linux, where no GPU's driver may be in use."""
    return sys.platform == "linux" and not any(Path(driver).exists() for driver in _DRIVERS)


def _start(command: list[str], environment: dict[str, str], count: int) -> list[WorkerPipes]:
    jobs, results = [os.pipe() for _ in range(count)], [os.pipe() for _ in range(count)]
    theirs = [(job[0], result[1]) for job, result in zip(jobs, results, strict=True)]
    # a process group of its own: a terminal's Ctrl-C is the command's to handle, and all of them end together
    process = subprocess.Popen(
        [*command, ",".join(f"{job}:{result}" for job, result in theirs)],
        stdin=subprocess.DEVNULL,
        env=environment,
        process_group=0,
        pass_fds=[end for pair in theirs for end in pair],
    )
    for end in (end for pair in theirs for end in pair):
        os.close(end)
    return [
        WorkerPipes(os.fdopen(job[1], "wb"), os.fdopen(result[0], "rb"), process)
        for job, result in zip(jobs, results, strict=True)
    ]
