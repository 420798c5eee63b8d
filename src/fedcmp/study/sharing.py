"""Tasks of a study that any number of processes on any number of machines share out among them.

All that they share is the study's folder. A process claims each task before it begins it (`locks.Claims`), looks again
whether another has done it meanwhile, and gives the claim back once the result is in the folder. So no task is done by
two, and the tasks of a process that is killed are taken over by the others.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fedcmp.errors import counted
from fedcmp.locks import Claims
from fedcmp.study.workers import Done, Task, Workers

Say = Callable[[str], None]
_LOOK_SECONDS = 1.0  # until a process that waits for others looks again


class OutOfTime(Exception):  # noqa: N818 - says what happened
    """The minutes that the user gave are over; what had ended is kept."""


@dataclass(frozen=True)
class Wanted:
    """A task that is to be done by one process.

    Attributes:
        claim: its name, the same in all processes.
        label: for people.
        task: what a worker is told.
        is_there: whether its result is in the study's folder; asked while no other process does it.
    """

    claim: str
    label: str
    task: Task
    is_there: Callable[[], bool]


@dataclass
class Shared:
    """This process's share of a study's tasks.

    Attributes:
        claims: the study's.
        workers: do the tasks.
        say: receives a line for people at every event.
        has_time: whether another task may be begun.
    """

    claims: Claims
    workers: Workers
    say: Say
    has_time: Callable[[], bool]

    def ended(self, wanted: Sequence[Wanted]) -> Iterator[tuple[int, Done]]:
        """Do tasks until all are done, by this process or by another.

        Args:
            wanted: in the order in which they are begun.

        Yields:
            A task's place in `wanted` and its end, for those done here; its result must be in the folder when the next
            one is asked for.

        Raises:
            OutOfTime: no task may be begun any more; those under way here were waited for.
        """
        waiting = dict(enumerate(wanted))
        begun, ended, told = time.monotonic(), 0, False
        while waiting:
            self.check_time()
            mine: list[int] = []  # places of the tasks that were begun here, in their order
            held: set[int] = set()  # those whose claims are not given back yet
            try:
                for done in self.workers.run(self._claimed(waiting, mine, held), may_start=self.has_time):
                    ended, place = ended + 1, mine[done.index]
                    left = len(waiting) + len(held) - 1
                    minutes = (time.monotonic() - begun) / ended * left / 60  # at this process's own pace
                    what = done.error or _figures(done.record or {})
                    self.say(
                        f"[{len(wanted) - left}/{len(wanted)}, {minutes:.0f} min left] {wanted[place].label}: {what}"
                    )
                    yield place, done
                    held.remove(place)
                    self.claims.release(wanted[place].claim)
            finally:
                for place in held:
                    self.claims.release(wanted[place].claim)
            if waiting and not mine:
                if not told:
                    self.say(self._elsewhere([wanted[place] for place in waiting]))
                told = True
                time.sleep(_LOOK_SECONDS)

    def check_time(self) -> None:
        """Raise OutOfTime where the minutes are over."""
        if not self.has_time():
            raise OutOfTime

    def _claimed(self, waiting: dict[int, Wanted], mine: list[int], held: set[int]) -> Iterator[Task]:
        """Claim what no other process has, one task whenever a worker is free; what is there by now is left out."""
        for place, each in list(waiting.items()):
            if not self.claims.take(each.claim):
                continue
            del waiting[place]
            if each.is_there():
                self.claims.release(each.claim)
            else:
                mine.append(place)
                held.add(place)
                yield each.task

    def _elsewhere(self, waiting: Sequence[Wanted]) -> str:
        holder = self.claims.holder(waiting[0].claim)
        by = f" ({holder})" if holder else ""
        return f"waiting for {counted(len(waiting), 'task')} of other processes, the first: {waiting[0].label}{by}"


def _figures(record: dict[str, Any]) -> str:
    final = record.get("final")
    if final is None:
        return "done"
    return f"caption loss {final['caption_loss']:.3f}, worst family {final['worst_family_loss']:.3f}"
