"""A study from its recipe to its run files: tune, run, write each record as it ends; what is there is not run again."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedcmp.config import dump_recipe
from fedcmp.errors import counted
from fedcmp.locks import alone_in
from fedcmp.model.locations import EMBEDDED
from fedcmp.runs.folder import RunFolder
from fedcmp.runs.study_records import FORMAT, Blind, ScenarioFacts, StudyRun
from fedcmp.study.benchmarks import StudyBenchmarks
from fedcmp.study.files import StudyFiles, read_record
from fedcmp.study.plan import PlannedRun, Settings, inherited, planned_run
from fedcmp.study.recipe import Best, StudyRecipe
from fedcmp.study.tuning import MethodTuning
from fedcmp.study.workers import Done, Task, Workers, checked

Say = Callable[[str], None]
# Used for the estimate until runs of the study itself have been timed: seconds a caption and core, seconds of judging.
_SECONDS_A_CAPTION, _SECONDS_OF_JUDGING, _SECONDS_OF_LOADING = 0.003, 15.0, 4.0


class OutOfTime(Exception):  # noqa: N818 - says what happened
    """The minutes that the user gave are over; what had ended is kept."""


@dataclass
class Study:
    """One study in its folder.

    Args:
        recipe: the study.
        say: receives a line for people at every event.
        only: scenarios to run; None: all.
        minutes: stop starting runs after so many; None: never.
    """

    recipe: StudyRecipe
    say: Say
    only: list[str] | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        self.files = StudyFiles(self.recipe.study.folder)
        self._begun = time.monotonic()

    @property
    def scenarios(self) -> list[str]:
        """Those to run, in the recipe's order."""
        return [name for name in self.recipe.scenario if self.only is None or name in self.only]

    def run(self) -> None:
        """Tune every method that is not tuned yet, then run all that is missing.

        Raises:
            OutOfTime: the minutes are over.
            UserError: a run met what the user has to fix, lmms-eval cannot be asked, or another process is running
                this study.
        """
        folder = self.files.folder
        with alone_in(folder, f"{folder}: another process is running this study; wait for it, or give another folder"):
            self._run()

    def _run(self) -> None:
        benchmarks = StudyBenchmarks.of(self.recipe, self.files, self.say)
        self.files.write_study(self.recipe)
        self.say(self.estimate())
        with Workers(self.recipe.study.workers) as workers:
            settings = self._tune(workers)
            self._references(workers)
            planned: list[PlannedRun] = []
            for deferred in (False, True):  # which methods a deferred scenario has is known by its turn only
                planned += (runs := self._plan(settings, deferred=deferred))
                self._run_all(workers, runs)
        if benchmarks is not None:
            benchmarks.ask(planned, before_each=self._check_time)

    def estimate(self) -> str:
        """How many runs are still to be done, and about how many minutes they take with the study's workers.

        Only the embedded world's runs are estimated before the first has been timed: nothing is known of other models.
        """
        trials = [
            (rung.captions, rung.trials)
            for name, m in self.recipe.method.items()
            if m.like is None
            for rung in self.recipe.tuning.rungs
            if not self._is_tuned(name)
        ]
        seconds = sum(count * (captions * _SECONDS_A_CAPTION + _SECONDS_OF_LOADING) for captions, count in trials)
        runs = self._count_missing()
        tuned = sum(count for _, count in trials)
        listed = ", ".join(f"{name} {count}" for name, count in runs.items()) or "none"
        said = f"{tuned} short runs of tuning, {sum(runs.values())} runs ({listed})"
        embedded = self.recipe.base.get("model", {}).get("language", EMBEDDED) == EMBEDDED
        if not embedded and (tuned or not all(map(self._seconds_a_run, runs))):
            return f"{said}: how long they take is known when the first have ended"
        for scenario, count in runs.items():
            captions = self.recipe.base.get("data", {}).get("num_pairs", 0)
            seconds += count * (self._seconds_a_run(scenario) or captions * _SECONDS_A_CAPTION + _SECONDS_OF_JUDGING)
        minutes = seconds / 60 / self.recipe.study.workers
        return f"{said}: about {counted(round(minutes), 'minute')}"

    # --- tuning -----------------------------------------------------------------------------------------------------

    def _tunings(self) -> dict[str, MethodTuning]:
        out = {}
        for name, section in self.recipe.method.items():
            if section.like is None:
                out[name] = MethodTuning(self.recipe, name, self.files.tuning(name))
                out[name].load()
        return out

    def _is_tuned(self, name: str) -> bool:
        tuning = MethodTuning(self.recipe, name, self.files.tuning(name))
        tuning.load()
        return not tuning.pending()

    def _tune(self, workers: Workers) -> dict[str, Settings]:
        """Rung by rung over all methods at once, so that no worker waits for one method's last trial."""
        tunings = self._tunings()
        while waiting := [(t, run, s) for t in tunings.values() for run, s in t.pending()]:
            tasks = [task_of(run) for _, run, _ in waiting]
            for done in self._ended(workers, tasks, [f"tuning {t.method}, {_said(s)}" for t, _, s in waiting]):
                tuning, run, settings = waiting[done.index]
                tuning.note(run, settings, done.record)  # a trial that diverged is a result too
        settings = {name: tuning.finish() for name, tuning in tunings.items()}
        for name, section in self.recipe.method.items():
            if section.like is not None:
                settings[name] = inherited(self.recipe, name, settings[section.like])
        return settings

    # --- runs -------------------------------------------------------------------------------------------------------

    def methods_of(self, scenario: str) -> list[str] | None:
        """The methods of a scenario, arms apart; None while what decides on them is not complete."""
        chosen = self.recipe.scenario[scenario].methods
        if chosen == "all":
            return [name for name, section in self.recipe.method.items() if section.family != "ablation"]
        if isinstance(chosen, Best):
            return self._best(chosen)
        return list(chosen)

    def _best(self, chosen: Best) -> list[str] | None:
        names = self.methods_of(chosen.of) or []
        losses: dict[str, float] = {}
        for name in names:
            records = [
                read_record(self.files.run(chosen.of, name, seed)) for seed in self.recipe.scenario[chosen.of].seeds
            ]
            if any(record is None for record in records):
                return None
            losses[name] = sum(_caption_loss(record) for record in records if record) / len(records)
        main = [n for n in names if self.recipe.method[n].family in ("baseline", "ours")]
        best = sorted(main, key=lambda n: losses[n])[: chosen.best]
        references = [n for n in names if self.recipe.method[n].family == "reference"]
        return [n for n in names if n in {*best, *references, *chosen.also}]

    def _plan(self, settings: dict[str, Settings], *, deferred: bool) -> list[PlannedRun]:
        """All runs that can be planned now; seed by seed, so that an interrupted study has whole seeds."""
        planned = []
        for scenario in self.scenarios:
            section = self.recipe.scenario[scenario]
            if isinstance(section.methods, Best) != deferred:
                continue
            methods = self.methods_of(scenario)
            if methods is None:
                of = section.methods.of if isinstance(section.methods, Best) else ""
                self.say(f"{scenario}: waits until scenario {of} is complete")
                continue
            for seed in section.seeds:
                named = methods + (self._arms() if seed in section.ablation_seeds else [])
                planned += [planned_run(self.recipe, scenario, name, seed, settings[name]) for name in named]
        return planned

    def _arms(self) -> list[str]:
        return [name for name, section in self.recipe.method.items() if section.family == "ablation"]

    def _run_all(self, workers: Workers, planned: list[PlannedRun]) -> None:
        missing = [run for run in planned if not self._is_done(run)]
        self._facts(workers, planned)
        tasks = [task_of(run) | self._keeping(run) for run in missing]
        for done in self._ended(workers, tasks, [run.label() for run in missing]):
            run = missing[done.index]
            found = {"failed": done.error} if done.record is None else done.record
            record = StudyRun(
                format=FORMAT,
                hash=run.hash,
                scenario=run.scenario,
                method=run.method,
                seed=run.seed,
                settings=run.recipe.model_dump(mode="json")["method"][run.method],
                **found,
            )
            self.files.write(self.files.run(run.scenario, run.method, run.seed), record)

    def _is_done(self, run: PlannedRun) -> bool:
        record = read_record(self.files.run(run.scenario, run.method, run.seed))
        if record is None or record.get("hash") != run.hash:
            return False
        kept = self._keeping(run)
        return not kept or "failed" in record or RunFolder(Path(kept["keep"])).begun

    def _keeping(self, run: PlannedRun) -> dict[str, str]:
        """What a task says about where the run's projector is kept: benchmarks are asked of it."""
        if self.recipe.study.benchmarks is None:
            return {}
        return {"keep": str(self.files.model(run.scenario, run.method, run.seed).absolute())}

    def _references(self, workers: Workers) -> None:
        """The blind LLM's figures, once: they depend on no scenario and no seed."""
        path = self.files.blind
        name = next(iter(self.recipe.scenario))
        seed = self.recipe.scenario[name].seeds[0]
        run = planned_run(self.recipe, name, "fedavg", seed, {"learning_rate": 1e-3})
        kept = read_record(path)
        if kept is not None and kept.get("hash") == run.pairs_hash:
            return
        (done,) = self._ended(workers, [task_of(run) | {"op": "blind"}], ["the blind LLM"])
        self.files.write(path, Blind(format=FORMAT, hash=run.pairs_hash, **checked(done, "the blind LLM")))

    def _facts(self, workers: Workers, planned: list[PlannedRun]) -> None:
        """Sizes, heterogeneity and map of every scenario and seed."""
        first = {(run.scenario, run.seed): run for run in planned}
        missing = {}
        for (scenario, seed), run in first.items():
            path = self.files.facts(scenario, seed)
            kept = read_record(path)
            if kept is None or kept.get("hash") != run.pairs_hash:
                missing[path] = run
        tasks = [task_of(run) | {"op": "scenario"} for run in missing.values()]
        labels = [f"facts about {run.scenario}, seed {run.seed}" for run in missing.values()]
        for done in self._ended(workers, tasks, labels):
            path, run = list(missing.items())[done.index]
            known = {"format": FORMAT, "hash": run.pairs_hash, "seed": run.seed}
            self.files.write(path, ScenarioFacts.from_line(checked(done, labels[done.index]) | known))

    # --- files and people -------------------------------------------------------------------------------------------

    def _ended(self, workers: Workers, tasks: list[Task], labels: list[str]) -> Iterator[Done]:
        """Do tasks until there are no more, or no more time: then those under way are waited for."""
        if not tasks:
            return
        self._check_time()
        begun, ended = time.monotonic(), 0
        for done in workers.run(tasks, may_start=self._has_time):
            ended += 1
            left = (time.monotonic() - begun) / ended * (len(tasks) - ended) / 60
            what = done.error or _figures(done.record or {})
            self.say(f"[{ended}/{len(tasks)}, {left:.0f} min left] {labels[done.index]}: {what}")
            yield done
        if ended < len(tasks):
            raise OutOfTime

    def _check_time(self) -> None:
        if not self._has_time():
            raise OutOfTime

    def _has_time(self) -> bool:
        return self.minutes is None or time.monotonic() - self._begun <= 60 * self.minutes

    def _count_missing(self) -> dict[str, int]:
        """Runs without a file, by scenario; for those that wait for others, as many as they can become."""
        out = {}
        for scenario in self.scenarios:
            section = self.recipe.scenario[scenario]
            methods = self.methods_of(scenario)
            if methods is None:
                count = section.methods.best if isinstance(section.methods, Best) else 0
                out[scenario] = count * len(section.seeds)
            else:
                expected = [(m, s) for m in methods for s in section.seeds]
                expected += [(m, s) for m in self._arms() for s in section.ablation_seeds]
                out[scenario] = sum(not self.files.run(scenario, m, s).exists() for m, s in expected)
        return {name: count for name, count in out.items() if count}

    def _seconds_a_run(self, scenario: str) -> float | None:
        """Of the runs that have ended, training and about what judging costs."""
        files = self.files.runs_of(scenario)
        records = [StudyRun.from_line(record) for f in files if (record := read_record(f))]
        seconds = [record.seconds for record in records if record.seconds is not None]
        return sum(seconds) / len(seconds) + _SECONDS_OF_JUDGING if seconds else None


def task_of(run: PlannedRun) -> Task:
    """What a worker is told."""
    return {
        "op": "run",
        "recipe": dump_recipe(run.recipe),
        "method": run.method,
        "pairs_hash": run.pairs_hash,
        "suites": list(run.suites),
    }


def _caption_loss(record: dict[str, Any]) -> float:
    """Infinite for a run that failed."""
    loss = StudyRun.from_line(record).final.caption_loss
    return math.inf if loss is None else loss


def _figures(record: dict[str, Any]) -> str:
    final = record.get("final")
    if final is None:
        return "done"
    return f"caption loss {final['caption_loss']:.3f}, worst family {final['worst_family_loss']:.3f}"


def _said(settings: Settings) -> str:
    knobs = {**settings["options"], **settings["objective_options"]}
    return ", ".join([f"rate {settings['learning_rate']:g}", *(f"{name} {value}" for name, value in knobs.items())])
