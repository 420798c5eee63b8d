"""What a schedule must end as: the run without faults, or the one whose rounds were closed without the same sites."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.faults.outcome import Absent
from tools.faults.plan import Plan
from tools.faults.schedule import Ended, Runner, reference

SAME, WITHOUT, STOPPED, WRONG = (
    "as the run without faults",
    "as that run, some rounds closed at their deadline without a site",
    "stopped in one clear line, and resumed to the same",
    "wrong",
)


@dataclass(frozen=True)
class Result:
    """One schedule, how it ended, and what was different from the run without faults."""

    plan: Plan
    ended: Ended
    different: list[str]

    @property
    def end(self) -> str:
        """How it ended: one of the above."""
        if not self.ended.finished or self.ended.fault or self.different:
            return WRONG
        if self.ended.stops:
            return STOPPED
        return WITHOUT if self.ended.absent else SAME


class References:
    """Runs without faults, each made once.

    Args:
        runner: runs them.
    """

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._known: dict[tuple[str, str, Absent], Ended] = {}
        self.span = 6.0

    def of(self, plan: Plan, absent: Absent) -> Ended:
        """Return the run that a schedule must end as.

        Raises:
            RuntimeError: it does not come to its end.
        """
        key = (plan.setting.method, plan.setting.payload, absent)
        if key not in self._known:
            ended = reference(self._runner, plan, absent, span=self.span)
            if not ended.finished or ended.fault or ended.absent != absent:
                raise RuntimeError(f"{plan.name}, without faults: {ended}")
            self._known[key] = ended
            if not absent:
                self.span = ended.seconds
        return self._known[key]


class Trial:
    """Runs schedules one after the other, and compares each with the run without faults.

    Args:
        work: a folder with a short path; made if it is not there.
        pairs: what `export_pairs` returned.
    """

    def __init__(self, work: Path, pairs: Mapping[str, Mapping[str, Any]]) -> None:
        work.mkdir(exist_ok=True)
        self._runner = Runner(pairs, work)
        self._references = References(self._runner)

    def of(self, plan: Plan, *, keep: bool = False) -> Result:
        """Run one schedule.

        Args:
            plan: the schedule.
            keep: leave its folder behind.
        """
        self._references.of(plan, frozenset())  # measures how long a run takes
        ended = self._runner.run(plan, span=self._references.span, keep=keep)
        different: list[str] = []
        if ended.finished and not ended.fault:
            expected = dict(self._references.of(plan, ended.absent).left)
            if not plan.judged_by_all:
                expected.pop("judgements")
            keys = expected.keys() | ended.left.keys()
            different = sorted(key for key in keys if expected.get(key) != ended.left.get(key))
        return Result(plan, ended, different)
