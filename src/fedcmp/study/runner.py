"""A study from its recipe to its run files: tune, run, write each record as it ends; what is there is not run again.

Any number of processes may run one study: each task is done by one of them (`sharing`).
"""

import math
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fedcmp.config import dump_recipe
from fedcmp.errors import counted
from fedcmp.model.locations import EMBEDDED
from fedcmp.runs.folder import RunFolder
from fedcmp.runs.study_records import FORMAT, Blind, ScenarioFacts, StudyRun
from fedcmp.study.benchmarks import StudyBenchmarks
from fedcmp.study.files import StudyFiles, read_record
from fedcmp.study.plan import PlannedRun, Settings, inherited, planned_run
from fedcmp.study.recipe import Best, StudyRecipe
from fedcmp.study.sharing import Say, Shared, Wanted
from fedcmp.study.tuning import MethodTuning
from fedcmp.study.workers import Task, Workers, checked

# Used for the estimate until runs of the study itself have been timed: seconds a caption and core, seconds of judging.
_SECONDS_A_CAPTION, _SECONDS_OF_JUDGING, _SECONDS_OF_LOADING = 0.003, 15.0, 4.0


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
            UserError: a run met what the user has to fix, lmms-eval cannot be asked, or the folder cannot be shared
                with other processes.
        """
        benchmarks = StudyBenchmarks.of(self.recipe, self.files, self.say)
        with self.files.claims() as claims:
            with claims.turn("study"):
                self.files.write_study(self.recipe)
            self.say(self.estimate())
            with Workers(self.recipe.study.workers) as workers:
                shared = Shared(claims, workers, self.say, self._has_time)
                settings = self._tune(shared)
                self._references(shared)
                planned: list[PlannedRun] = []
                for deferred in (False, True):  # which methods a deferred scenario has is known by its turn only
                    planned += (runs := self._plan(settings, deferred=deferred))
                    self._run_all(shared, runs)
            if benchmarks is not None:
                benchmarks.ask(planned, claims, before_each=shared.check_time)

    def estimate(self, *, processes: int = 1) -> str:
        """How many runs are still to be done, and about how many minutes they take with the study's workers.

        Only the embedded world's runs are estimated before the first has been timed: nothing is known of other models.

        Args:
            processes: how many run the study side by side, each with its own workers.
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
        minutes = seconds / 60 / self.recipe.study.workers / processes
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

    def _tune(self, shared: Shared) -> dict[str, Settings]:
        """Rung by rung over all methods at once, so that no worker waits for one method's last trial."""
        tunings = self._tunings()
        while waiting := [(t, run, s) for t in tunings.values() for run, s in t.pending()]:
            wanted = [
                Wanted(
                    claim=f"tuning/{t.method}/{run.hash[:16]}",
                    label=f"tuning {t.method}, {_said(s)}",
                    task=task_of(run),
                    is_there=partial(t.has, run),
                )
                for t, run, s in waiting
            ]
            for place, done in shared.ended(wanted):
                tuning, run, settings = waiting[place]
                with shared.claims.turn(f"tuning/{tuning.method}"):  # one file for all of a method's trials
                    tuning.load()
                    tuning.note(run, settings, done.record)  # a trial that diverged is a result too
            for tuning in tunings.values():
                tuning.load()
        settings = {}
        for name, tuning in tunings.items():
            with shared.claims.turn(f"tuning/{name}"):
                settings[name] = tuning.finish()
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

    def _run_all(self, shared: Shared, planned: list[PlannedRun]) -> None:
        missing = [run for run in planned if not self._is_done(run)]
        self._facts(shared, planned)
        wanted = [
            Wanted(
                claim=f"runs/{run.scenario}/{run.method}/{run.seed}",
                label=run.label(),
                task=task_of(run) | self._keeping(run),
                is_there=partial(self._is_done, run),
            )
            for run in missing
        ]
        for place, done in shared.ended(wanted):
            run = missing[place]
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

    def _references(self, shared: Shared) -> None:
        """The blind LLM's figures, once: they depend on no scenario and no seed."""
        path = self.files.blind
        name = next(iter(self.recipe.scenario))
        seed = self.recipe.scenario[name].seeds[0]
        run = planned_run(self.recipe, name, "fedavg", seed, {"learning_rate": 1e-3})
        is_there = partial(_is_kept, path, run.pairs_hash)
        if is_there():
            return
        wanted = Wanted("references/blind", "the blind LLM", task_of(run) | {"op": "blind"}, is_there)
        for _, done in shared.ended([wanted]):
            self.files.write(path, Blind(format=FORMAT, hash=run.pairs_hash, **checked(done, wanted.label)))

    def _facts(self, shared: Shared, planned: list[PlannedRun]) -> None:
        """Sizes, heterogeneity and map of every scenario and seed."""
        first = {self.files.facts(run.scenario, run.seed): run for run in planned}
        missing = [(path, run) for path, run in first.items() if not _is_kept(path, run.pairs_hash)]
        wanted = [
            Wanted(
                claim=f"scenarios/{run.scenario}/{run.seed}",
                label=f"facts about {run.scenario}, seed {run.seed}",
                task=task_of(run) | {"op": "scenario"},
                is_there=partial(_is_kept, path, run.pairs_hash),
            )
            for path, run in missing
        ]
        for place, done in shared.ended(wanted):
            path, run = missing[place]
            known = {"format": FORMAT, "hash": run.pairs_hash, "seed": run.seed}
            self.files.write(path, ScenarioFacts.from_line(checked(done, wanted[place].label) | known))

    # --- files and people -------------------------------------------------------------------------------------------

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


def _is_kept(path: Path, pairs_hash: str) -> bool:
    record = read_record(path)
    return record is not None and record.get("hash") == pairs_hash


def _said(settings: Settings) -> str:
    knobs = {**settings["options"], **settings["objective_options"], **settings.get("step_options", {})}
    return ", ".join([f"rate {settings['learning_rate']:g}", *(f"{name} {value}" for name, value in knobs.items())])
