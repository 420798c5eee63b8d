"""The paper's benchmarks asked of a study's runs, one after another; what is there and fits is not asked again."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

from fedcmp.errors import UserError
from fedcmp.evaluation.lmms.benchmarks import chosen_benchmarks
from fedcmp.evaluation.lmms.environment import probe
from fedcmp.evaluation.lmms.judge import judge_from
from fedcmp.evaluation.lmms.suite import Settings, check_settings
from fedcmp.finished.benchmarks import benchmark_folder
from fedcmp.locks import Claims
from fedcmp.preparation.sources import user_cache_folder
from fedcmp.runs.folder import RunFolder
from fedcmp.study.files import StudyFiles
from fedcmp.study.plan import PlannedRun
from fedcmp.study.recipe import StudyRecipe

_LOOK_SECONDS = 1.0  # until a process that waits for others looks again


@dataclass(frozen=True)
class StudyBenchmarks:
    """What a study asks of its runs beside its own suites.

    Attributes:
        settings: what is asked.
        prompts: the form of the prompts; None: as fits the LLM.
        files: the study's.
        say: receives a line for people at every event.
    """

    settings: Settings
    prompts: str | None
    files: StudyFiles
    say: Callable[[str], None]

    @classmethod
    def of(cls, recipe: StudyRecipe, files: StudyFiles, say: Callable[[str], None]) -> Self | None:
        """Ready to ask, checked before anything is trained; None where the study asks no benchmarks.

        Raises:
            UserError: no lmms-eval, no folder of data, no such device, or a named benchmark without data or judge.
        """
        given = recipe.benchmarks
        if given is None:
            return None
        if not given.datasets.is_dir():
            raise UserError(f"benchmarks.datasets = {str(given.datasets)!r}: no such folder")
        settings = Settings(
            environment=probe(given.lmms_python, place="benchmarks.lmms_python"),
            datasets=given.datasets,
            cache=user_cache_folder(),
            benchmarks=chosen_benchmarks(",".join(given.only) or None),
            insisted=bool(given.only),
            limit=given.limit,
            judge=judge_from(given.judge_url, given.judge_model, given.judge_key),
            device=given.device,
        )
        for outcome in check_settings(settings):
            say(f"benchmarks: {outcome.line()}")
        return cls(settings, given.prompts, files, say)

    def ask(self, planned: Sequence[PlannedRun], claims: Claims, *, before_each: Callable[[], None]) -> None:
        """Ask all runs that have ended and did not fail, each by one process.

        Args:
            planned: the study's runs.
            claims: this process's of the study.
            before_each: called before each run, and while others are waited for; raises to stop.

        Raises:
            UserError: a benchmark failed; the others were asked all the same.
        """
        failed: list[str] = []
        waiting = [run for run in planned if RunFolder(self.files.model(run.scenario, run.method, run.seed)).begun]
        while waiting:
            held = []  # by other processes
            for run in waiting:
                before_each()
                claim = f"benchmarks/{run.scenario}/{run.method}/{run.seed}"
                if not claims.take(claim):
                    held.append(run)
                    continue
                failed += self._ask(run)
                claims.release(claim)
            if len(held) == len(waiting):
                time.sleep(_LOOK_SECONDS)
            waiting = held
        if failed:
            raise UserError(f"{len(failed)} benchmarks failed, the first: {failed[0]}")

    def _ask(self, run: PlannedRun) -> list[str]:
        """Ask one run; returns what failed."""
        model, out = [place(run.scenario, run.method, run.seed) for place in (self.files.model, self.files.benchmarks)]
        asked = benchmark_folder(model, self.settings, self._saying(run), prompts=self.prompts, out=out)
        outcomes = [outcome for found in asked.values() for outcome in found]
        return [f"{run.label()}, {o.line()}" for o in outcomes if o.status == "failed"]

    def _saying(self, run: PlannedRun) -> Callable[[str], None]:
        return lambda line: self.say(f"{run.label()}: {line}")
