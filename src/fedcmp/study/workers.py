"""The processes of a study: tasks go to whichever is free, records come back as they end."""

import itertools
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

from fedcmp.errors import UserError, WorkerDied, WorkerFailed
from fedcmp.wire.environment import worker_variables
from fedcmp.wire.frames import read_frame, write_frame

Task = dict[str, Any]


@dataclass(frozen=True)
class Done:
    """A task's end.

    Attributes:
        index: the task's place in the list.
        record: its result; None where `error` says why there is none.
        error: what the user has to mend.
    """

    index: int
    record: dict[str, Any] | None
    error: str = ""


class Workers:
    """`count` worker processes; use as a context manager: leaving it stops them at once."""

    def __init__(self, count: int) -> None:
        self._tasks: queue.Queue[tuple[int, Task] | None] = queue.Queue()
        self._done: queue.Queue[Done | BaseException] = queue.Queue()
        command = [sys.executable, "-m", "fedcmp.study.worker"]
        self._processes = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=worker_variables())
            for _ in range(count)
        ]
        self._threads = [threading.Thread(target=self._serve, args=(p,), daemon=True) for p in self._processes]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for _thread in self._threads:
            self._tasks.put(None)
        for process in self._processes:
            process.kill()
            process.wait()

    def run(self, tasks: Sequence[Task], *, may_start: Callable[[], bool] = lambda: True) -> Iterator[Done]:
        """Do all tasks; each is reported as it ends.

        Args:
            tasks: handed out one by one, as workers become free.
            may_start: asked before each but the first ones; after a no the tasks under way are waited for.

        Raises:
            WorkerDied: a process ended in the middle of a task.
            WorkerFailed: a task raised what is no user's mistake.
        """
        waiting = iter(enumerate(tasks))
        under_way = 0
        for numbered in itertools.islice(waiting, len(self._processes)):
            self._tasks.put(numbered)
            under_way += 1
        while under_way:
            done = self._done.get()
            under_way -= 1
            if isinstance(done, BaseException):
                raise done
            following = next(waiting, None) if may_start() else None
            if following is not None:
                self._tasks.put(following)
                under_way += 1
            yield done

    def _serve(self, process: "subprocess.Popen[bytes]") -> None:
        while (task := self._tasks.get()) is not None:
            try:
                self._done.put(_ask(process, *task))
            except BaseException as error:
                self._done.put(error)


def _ask(process: "subprocess.Popen[bytes]", index: int, task: Task) -> Done:
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        write_frame(process.stdin, task, {})
        answer, _ = read_frame(process.stdout)
    except (EOFError, BrokenPipeError) as error:
        code = process.wait()
        raise WorkerDied(
            f"a worker of the study ended in the middle of a run (exit code {code}; -9 is often the system running out "
            "of memory: use fewer workers); what had ended is kept: give the same command again"
        ) from error
    if "error" in answer:
        raise WorkerFailed(answer["error"])
    if "user_error" in answer:
        return Done(index, None, answer["user_error"])
    return Done(index, answer["record"])


def checked(done: Done, label: str) -> dict[str, Any]:
    """A task's record.

    Raises:
        UserError: it has none.
    """
    if done.record is None:
        raise UserError(f"{label}: {done.error}")
    return done.record
