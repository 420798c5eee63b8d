"""Tuning by successive halving: many settings on few pairs, the best of them on more.

Every method has the same rungs, on validation scenes and a seed that is not reported; the score is the mean of caption
loss and worst-family loss. Results are kept in tuning/METHOD.json, trial by trial.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedcmp.runs.study_records import Trial, Tuning
from fedcmp.study.files import read_record, write_json
from fedcmp.study.plan import PlannedRun, Settings, grid, planned_run
from fedcmp.study.recipe import StudyRecipe


@dataclass
class MethodTuning:
    """One method's way through the rungs.

    Attributes:
        study: the study.
        method: its name.
        file: where trials are kept.
    """

    study: StudyRecipe
    method: str
    file: Path
    trials: dict[str, Trial] = field(default_factory=dict)

    def load(self) -> None:
        """Read the trials of an interrupted study and of other processes."""
        record = read_record(self.file)
        if record is not None:
            kept = Tuning.from_line(record)
            self.trials |= {trial.hash: trial for trial in kept.trials}

    def has(self, run: PlannedRun) -> bool:
        """Read the trials; returns whether one is among them."""
        self.load()
        return run.hash in self.trials

    def pending(self) -> list[tuple[PlannedRun, Settings]]:
        """The trials of the present rung that are still to be done; none when tuning is over or nothing to choose."""
        if self._only is not None:
            return []
        for planned in self._rungs():
            missing = [(run, settings) for run, settings in planned if run.hash not in self.trials]
            if missing:
                return missing
        return []

    def note(self, run: PlannedRun, settings: Settings, record: dict[str, Any] | None) -> None:
        """Keep a trial's figures; no record: the method diverged under these settings."""
        final = record["final"] if record else {}
        losses = {key: final.get(key) for key in ("caption_loss", "worst_family_loss", "mean_loss")}
        self.trials[run.hash] = Trial(settings=settings, captions=run.recipe.data.num_pairs, hash=run.hash, **losses)
        self._write()

    def chosen(self) -> Settings:
        """The best settings of the last rung; only after `pending` is empty."""
        if self._only is not None:
            return self._only
        *_, last = self._rungs()
        run, settings = min(last, key=lambda planned: self._score(planned[0]))
        if math.isinf(self._score(run)):
            raise ValueError(f"method.{self.method}: diverged at every setting that was tried; give lower rates")
        return settings

    def finish(self) -> Settings:
        """Write what was chosen where there was a choice; returns it."""
        chosen = self.chosen()
        if self._only is None:
            self._write(chosen)
        return chosen

    @property
    def _only(self) -> Settings | None:
        """The settings of a method that has one rate and no knob: there is nothing to try."""
        settings = grid(self.study.method[self.method])
        return settings[0] if len(settings) == 1 else None

    def _rungs(self) -> list[list[tuple[PlannedRun, Settings]]]:
        """The trials of each rung that can be known so far."""
        tuning = self.study.tuning
        settings = grid(self.study.method[self.method])
        out: list[list[tuple[PlannedRun, Settings]]] = []
        for rung in tuning.rungs:
            planned = [
                (
                    planned_run(self.study, tuning.scenario, self.method, tuning.seed, each, captions=rung.captions),
                    each,
                )
                for each in settings[: rung.trials]
            ]
            out.append(planned)
            if any(run.hash not in self.trials for run, _ in planned):
                break
            settings = [each for _, each in sorted(planned, key=lambda pair: self._score(pair[0]))]
        return out

    def _score(self, run: PlannedRun) -> float:
        loss = self.trials[run.hash].mean_loss
        return math.inf if loss is None else loss

    def _write(self, chosen: Settings | None = None) -> None:
        tuning = self.study.tuning
        record = Tuning(
            method=self.method,
            scenario=tuning.scenario,
            seed=tuning.seed,
            trials=list(self.trials.values()),
            chosen=chosen,
        )
        write_json(self.file, record.line())
