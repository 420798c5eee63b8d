"""A learning rate for every method of a recipe, found on a validation share of the clients' own pairs.

Successive halving over factors on each method's default rate (config/rates.py): all factors on a quarter of every
client's training pairs, then each method's best two on all of them. The held-out pairs that a run reports on are set
aside unseen (evaluation.split = "validation"). Each factor is an ordinary run under SWEEP/rung-N/, of all methods that
try it there; a run that is finished is read, one that was interrupted resumes.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedcmp.config import Recipe, parse_recipe
from fedcmp.errors import MethodFailed, UserError
from fedcmp.files import write_whole
from fedcmp.runs.reading import Run, load_runs

FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
FEWER, KEPT = 0.25, 2  # share of the pairs on the first rung; how many factors go on to the second
Train = Callable[[Recipe], None]


@dataclass(frozen=True)
class Trial:
    """One method at one factor on one rung: its rate, and the caption loss (nats per token), inf where it diverged."""

    rung: int
    method: str
    factor: float
    learning_rate: float
    loss: float


@dataclass(frozen=True)
class Sweep:
    """A sweep over the methods of a recipe.

    Attributes:
        recipe: what is to be run in the end; rates that it names are not used here.
        factors: on the default rates.
    """

    recipe: Recipe
    factors: Sequence[float] = FACTORS

    @property
    def folder(self) -> Path:
        """Where its runs are: run.folder/NAME-sweep."""
        return self.recipe.run.folder / f"{self.recipe.run.name}-sweep"

    def budget(self) -> str:
        """Return one line that says what the sweep will train, next to the recipe's own run."""
        kept = min(KEPT, len(self.factors))
        times = len(self.factors) * FEWER + kept
        return (
            f"sweep of {len(self.recipe.run.methods)} methods: {len(self.factors)} rates each on {FEWER:.0%} of every "
            f"client's training pairs, then the best {kept} on all of them: {times:g} times the training of the run "
            "itself, evaluated on a validation share"
        )

    def run(self, train: Train) -> list[Trial]:
        """Train all that is not trained yet.

        Args:
            train: runs a recipe to its end, from where an earlier attempt left off.

        Returns:
            All trials, by rung, method and factor.

        Raises:
            UserError: as from training; or a method diverged at every rate.
        """
        first = self._rung(1, {method: list(self.factors) for method in self.recipe.run.methods}, train)
        second = self._rung(2, {method: _best(first, method) for method in self.recipe.run.methods}, train)
        trials = [*first, *second]
        table = [vars(trial) | {"loss": trial.loss if math.isfinite(trial.loss) else None} for trial in trials]
        write_whole(self.folder / "sweep.json", json.dumps(table, indent=1).encode())
        return trials

    def _rung(self, number: int, wanted: Mapping[str, Sequence[float]], train: Train) -> list[Trial]:
        found = []
        for factor in sorted({factor for factors in wanted.values() for factor in factors}):
            methods = [method for method in self.recipe.run.methods if factor in wanted[method]]
            found += self._at(number, factor, methods, train)
        return sorted(found, key=lambda trial: (self.recipe.run.methods.index(trial.method), trial.factor))

    def _at(self, rung: int, factor: float, methods: list[str], train: Train) -> list[Trial]:
        """One factor; a method that fails at it is left out, and the others run without it."""
        failed: list[Trial] = []
        while methods:
            recipe = self.trial_recipe(rung, factor, methods)
            try:
                train(recipe)
            except MethodFailed as error:
                methods = [method for method in methods if method != error.method]
                failed.append(Trial(rung, error.method, factor, math.nan, math.inf))
                continue
            runs = {run.method: run for run in load_runs(recipe.run.place)}
            return failed + [_trial(rung, method, factor, runs[method]) for method in methods]
        return failed

    def trial_recipe(self, rung: int, factor: float, methods: Sequence[str]) -> Recipe:
        """Return the recipe of some methods at one factor: judged once, on validation pairs, by the caption loss."""
        content = self.recipe.model_dump(mode="python", exclude_unset=True)
        _section(content, "run").update(
            name=f"x{factor:g}-of-{len(methods)}", folder=self.folder / f"rung-{rung}", methods=list(methods), track=[]
        )
        training = _section(content, "training")
        training.pop("learning_rate", None)
        training["rate_factor"] = factor
        _section(content, "data")["train_share"] = self.recipe.data.train_share * (FEWER if rung == 1 else 1.0)
        _section(content, "evaluation").update(
            split="validation", every=self.recipe.federation.rounds, questions_per_kind=0, samples=0
        )
        content["evaluation"].pop("questions", None)
        named = content.get("method", {})
        content["method"] = {name: {**named[name], "learning_rate": None} for name in named if name in methods}
        return parse_recipe(content, "sweep")


def chosen(trials: Sequence[Trial]) -> dict[str, float]:
    """Return each method's rate with the lowest loss on the last rung.

    Raises:
        UserError: a method diverged at every rate.
    """
    last = max(trial.rung for trial in trials)
    rates = {}
    for method in dict.fromkeys(trial.method for trial in trials):
        best = min((t for t in trials if t.method == method and t.rung == last), key=lambda trial: trial.loss)
        if math.isinf(best.loss):
            raise UserError(f"method {method}: diverged at every rate that was tried; give lower --factors")
        rates[method] = best.learning_rate
    return rates


def with_rates(content: Mapping[str, Any], rates: Mapping[str, float]) -> dict[str, Any]:
    """Return a recipe's tables with each method's rate in [method.NAME]."""
    methods = {name: dict(table) for name, table in content.get("method", {}).items()}
    for name, rate in rates.items():
        methods.setdefault(name, {})["learning_rate"] = rate
    return {**content, "method": methods}


def _section(content: dict[str, Any], name: str) -> dict[str, Any]:
    section: dict[str, Any] = content.setdefault(name, {})
    return section


def _best(trials: Sequence[Trial], method: str) -> list[float]:
    ordered = sorted((trial for trial in trials if trial.method == method), key=lambda trial: trial.loss)
    return [trial.factor for trial in ordered[:KEPT]]


def _trial(rung: int, method: str, factor: float, run: Run) -> Trial:
    measured = run.measures("validation")
    last = measured[max(measured)] if measured else ()
    losses = [math.inf if line.caption_loss is None else line.caption_loss for line in last]
    loss = sum(losses) / len(losses) if losses else math.inf
    rate = run.record.learning_rate if run.record else None
    return Trial(rung, method, factor, rate or math.nan, loss)
