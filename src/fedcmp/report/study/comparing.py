"""One comparison: the methods that one table ranks in one scenario, their figures, ranks, winner and p-values.

A method's figures are those of its seeds. Ranks are taken at each seed that all methods ran, over the suites that are
informative in the scenario; the p-values compare the winner by caption loss with every other federated method, as one
family (Holm).
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property

from fedcmp.report.comparison import FEWEST, LEARNED
from fedcmp.report.methods import CAPTION_LOSS, ordered
from fedcmp.report.study.metrics import MEAN_RANK, SUITES
from fedcmp.report.study.reading import Study
from fedcmp.report.study.statistics import (
    Estimate,
    PairedDifference,
    holm,
    informative,
    mean_ranks,
    noise_of_difference,
)
from fedcmp.runs.study_records import ABLATION, Blind, StudyMethod, StudyRun, StudyScenario

OURS, FEDAVG, CENTRALIZED, LOCAL = "shared-basis", "fedavg", "centralized", "local"
HEADLINE = "image"


@dataclass(frozen=True)
class Entry:
    """A method and its runs in one scenario, one a seed."""

    method: StudyMethod
    runs: tuple[StudyRun, ...]

    def by_seed(self, key: str) -> dict[int, float]:
        """Return seed -> final value, for the seeds at which it was measured."""
        return {run.seed: run.values[key] for run in self.runs if key in run.values}

    def estimate(self, key: str) -> Estimate | None:
        """Return the mean over seeds, None where it was never measured."""
        values = list(self.by_seed(key).values())
        return Estimate.of(values) if values else None


@dataclass(frozen=True)
class Judgement:
    """Whether one suite measures anything, and the numbers that say so; `noise` is that of the difference."""

    centralized: Estimate
    blind: float
    noise: float
    informative: bool
    scenario: str  # title of the scenario whose centralized model was asked


@dataclass(frozen=True)
class Comparison:
    """The federated methods of one table by caption loss, best first, and the reference rows that frame them."""

    scenario: StudyScenario
    entries: tuple[Entry, ...]
    references: tuple[Entry, ...]
    judged: Mapping[str, Judgement]
    blind: Blind | None
    absent: tuple[StudyMethod, ...] = ()

    @cached_property
    def undecided(self) -> str:
        """Say why no method can win here, however clear its lead; "" where one can."""
        least = min((run.held_out for entry in self.entries for run in entry.runs if run.held_out), default=FEWEST)
        if least < FEWEST:
            return f"too few held-out pairs to name a winner: {least}, and at least {FEWEST} are needed"
        blind = self.blind.values.get(CAPTION_LOSS.key) if self.blind is not None else None
        loss = self.winner.estimate(CAPTION_LOSS.key) if self.winner is not None else None
        if blind is None or loss is None or loss.mean < (1 - LEARNED) * blind:
            return ""
        told = f"{CAPTION_LOSS.write(loss.mean)} nats per token, without images {CAPTION_LOSS.write(blind)}"
        return f"nothing learned yet: the lowest caption loss is {told}"

    @property
    def suites(self) -> list[str]:
        """Return the suites that count in ranks: the informative ones, and those that could not be judged."""
        return [suite.key for suite in SUITES if suite.key not in self.judged or self.judged[suite.key].informative]

    @cached_property
    def ranks(self) -> dict[str, dict[int, float]]:
        """Return method -> seed -> mean rank over the suites that count."""
        scores = {
            entry.method.name: {suite: found for suite in self.suites if (found := entry.by_seed(suite))}
            for entry in self.entries
        }
        return mean_ranks(scores)

    def by_seed(self, entry: Entry, key: str) -> dict[int, float]:
        """Return seed -> value of any metric of the tables, the mean rank included."""
        return self.ranks.get(entry.method.name, {}) if key == MEAN_RANK.key else entry.by_seed(key)

    def estimate(self, entry: Entry, key: str) -> Estimate | None:
        """Return the mean over seeds of any metric of the tables, the mean rank included."""
        values = list(self.by_seed(entry, key).values())
        return Estimate.of(values) if values else None

    @property
    def winner(self) -> Entry | None:
        """Return the federated method of the lowest mean caption loss, None before any was measured."""
        return next((entry for entry in self.entries if _order(entry)[0] < math.inf), None)

    def named(self, name: str) -> Entry | None:
        """Return the method of that name, federated or not."""
        return next((entry for entry in (*self.entries, *self.references) if entry.method.name == name), None)

    def differences(self, ours: Entry, key: str) -> dict[str, PairedDifference | None]:
        """Return every other federated method -> its value minus ours over common seeds."""
        mine = self.by_seed(ours, key)
        return {
            entry.method.name: PairedDifference.between(mine, self.by_seed(entry, key))
            for entry in self.entries
            if entry is not ours
        }

    @cached_property
    def p_values(self) -> dict[str, float | None]:
        """Return every federated method but the winner -> Holm's p-value of its caption loss against the winner's."""
        return corrected(self.differences(self.winner, CAPTION_LOSS.key)) if self.winner is not None else {}

    @property
    def ranked_seeds(self) -> tuple[int, int]:
        """Say how many seeds the ranks are taken at, and how many of them every ranked method ran."""
        found = [set(by_seed) for by_seed in self.ranks.values() if by_seed]
        return (len(set.union(*found)), len(set.intersection(*found))) if found else (0, 0)


def corrected(differences: Mapping[str, PairedDifference | None]) -> dict[str, float | None]:
    """Holm's p-values of one family of comparisons, by the rival's name."""
    p_values = holm([difference.p if difference is not None else None for difference in differences.values()])
    return dict(zip(differences, p_values, strict=True))


def main_comparison(study: Study, scenario: StudyScenario) -> Comparison:
    """Compare every method of the study in one scenario but the arms of the ablations."""
    names = [name for name, method in study.methods.items() if method.family != ABLATION]
    return _compare(study, scenario, names)


def arms_comparison(study: Study, scenario: StudyScenario, table: str) -> Comparison:
    """Compare the arms of one ablation table with each other, without reference rows."""
    names = [name for name, method in study.methods.items() if table in method.arms]
    return _compare(study, scenario, names)


def _compare(study: Study, scenario: StudyScenario, names: Collection[str]) -> Comparison:
    found = [Entry(study.methods[name], _runs(study, scenario.name, name)) for name in names]
    entries = [entry for entry in found if entry.runs]
    place = {CENTRALIZED: 0, LOCAL: 1}
    outside = [entry for entry in entries if not entry.method.federated]
    return Comparison(
        scenario=scenario,
        entries=tuple(sorted((entry for entry in entries if entry.method.federated), key=_order)),
        references=tuple(sorted(outside, key=lambda entry: (place.get(entry.method.name, 2), _order(entry)))),
        judged=_judge(study, scenario),
        blind=study.blind,
        absent=tuple(entry.method for entry in found if not entry.runs),
    )


def _runs(study: Study, scenario: str, method: str) -> tuple[StudyRun, ...]:
    return tuple(run for run in study.runs if run.scenario == scenario and run.method == method)


def _order(entry: Entry) -> tuple[float, str]:
    loss = entry.estimate(CAPTION_LOSS.key)
    return loss.mean if loss is not None and loss.finite else math.inf, entry.method.name


def _judge(study: Study, scenario: StudyScenario) -> dict[str, Judgement]:
    """Ask this scenario's centralized model, or else the first scenario's that has one."""
    if study.blind is None:
        return {}
    known = study.blind.values.keys() & study.blind.noise.keys()
    for place in ordered([scenario.name, *study.scenarios]):
        pooled = StudyMethod(name=CENTRALIZED, title=CENTRALIZED, federated=False)
        entry = Entry(pooled, _runs(study, place, CENTRALIZED))
        found = {suite.key: entry.estimate(suite.key) for suite in SUITES}
        if any(found.values()):
            title = study.scenarios[place].title
            return {
                suite: _judgement(estimate, study.blind.values[suite], study.blind.noise[suite], title)
                for suite, estimate in found.items()
                if estimate is not None and estimate.finite and suite in known
            }
    return {}


def _judgement(centralized: Estimate, blind: float, noise: float, title: str) -> Judgement:
    beats = informative(centralized, blind, noise)
    return Judgement(centralized, blind, noise_of_difference(centralized, noise), beats, title)
