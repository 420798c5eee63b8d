"""The worker processes of a run, started before their libraries are needed.

Loading torch and transformers takes a worker seconds of one core. Where a process may be split, one process loads them
once and splits into the workers, which then share that memory; elsewhere each worker loads them for itself.
"""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from fedcmp.wire.environment import worker_variables

# a library may ask a GPU's driver something while it is loaded; a process that is split after that cannot use the GPU
_DRIVERS = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/kfd", "/dev/dxg", "/dev/accel")


@dataclass(frozen=True)
class WorkerPipes:
    """The run's side of one worker.

    Attributes:
        jobs: frames to the worker.
        results: frames from it; a last one, {"exit_code": ...}, where it ended by itself.
        process: the worker, or the process that it was split from.
    """

    jobs: IO[bytes]
    results: IO[bytes]
    process: "subprocess.Popen[bytes]"

    def exit_code(self) -> int | None:
        """Of a worker that left no last frame; None where it was split from a process that is still there."""
        try:
            return self.process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            return None


class WorkerProcesses:
    """The worker processes of a run; use as a context manager: leaving it ends them.

    They load their libraries as soon as they are started, and what was prepared with their first job: started before a
    run is prepared, they are ready when it is.

    Args:
        count: how many; a single worker needs no process.
        prepared: where the run's `prepared/` folder is, or will be by the first job.
        split: let one process load the libraries and split into the workers; default: where that is safe.
    """

    def __init__(self, count: int, prepared: Path, *, split: bool | None = None) -> None:
        self.all: list[WorkerPipes] = []
        if count > 1:
            together = can_split() if split is None else split
            for workers in [count] if together else [1] * count:
                self.all += _start(prepared, workers)

    def __enter__(self) -> "WorkerProcesses":
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """End them at once, whatever they do."""
        for process in {id(worker.process): worker.process for worker in self.all}.values():
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        for worker in self.all:
            with suppress(OSError):  # those of a process that had ended by itself may still wait for jobs
                worker.jobs.close()


def can_split() -> bool:
    """Whether a process that has loaded torch can be split: on Linux, where no GPU's driver may have been asked."""
    return sys.platform == "linux" and not any(Path(driver).exists() for driver in _DRIVERS)


def _start(prepared: Path, count: int) -> list[WorkerPipes]:
    jobs, results = [os.pipe() for _ in range(count)], [os.pipe() for _ in range(count)]
    theirs = [(job[0], result[1]) for job, result in zip(jobs, results, strict=True)]
    command = [sys.executable, "-m", "fedcmp.simulation.worker", str(prepared), *(f"{j}:{r}" for j, r in theirs)]
    # a process group of its own: a terminal's Ctrl-C is the run's to handle, and all of them end together
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        env=worker_variables(),
        process_group=0,
        pass_fds=[end for pair in theirs for end in pair],
    )
    for end in (end for pair in theirs for end in pair):
        os.close(end)
    return [
        WorkerPipes(os.fdopen(job[1], "wb"), os.fdopen(result[0], "rb"), process)
        for job, result in zip(jobs, results, strict=True)
    ]
