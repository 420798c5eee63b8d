"""The processes of a study: tasks go to whichever is free, records come back as they end."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from fedcmp.errors import UserError
from fedcmp.workers.pool import Pool
from fedcmp.workers.processes import WorkerProcesses

Task = dict[str, Any]
_DIED = (
    "a worker of the study ended in the middle of a run (exit code {code}; -9 is often the system running out of "
    "memory: use fewer workers); what had ended is kept: give the same command again"
)


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


class Workers(Pool):
    """`count` worker processes; use as a context manager: leaving it stops them at once."""

    def __init__(self, count: int, handler: str = "fedcmp.study.handler:serve_tasks") -> None:
        super().__init__(WorkerProcesses(count, handler), died=_DIED)

    def run(self, tasks: Iterable[Task], *, may_start: Callable[[], bool] = lambda: True) -> Iterator[Done]:
        """Do all tasks; each is reported as it ends.

        Args:
            tasks: handed out one by one, as workers become free.
            may_start: asked before each but the first ones; after a no the tasks under way are waited for.

        Raises:
            WorkerDied: a process ended in the middle of a task.
            WorkerFailed: a task raised what is no user's mistake.
        """
        for index, answer in self.as_completed(((task, {}) for task in tasks), may_start=may_start):
            yield Done(index, answer.result.get("record"), answer.result.get("mistake", ""))


def checked(done: Done, label: str) -> dict[str, Any]:
    """A task's record.

    Raises:
        UserError: it has none.
    """
    if done.record is None:
        raise UserError(f"{label}: {done.error}")
    return done.record
