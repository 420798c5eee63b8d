"""A study's comparisons, one a scenario, with the colours that its methods keep in every figure."""

import math
import statistics
from dataclasses import dataclass

from fedcmp.report.palette import Palette
from fedcmp.report.study.comparing import FEDAVG, HEADLINE, OURS, Comparison, arms_comparison, main_comparison
from fedcmp.report.study.reading import Study
from fedcmp.runs.study_records import ABLATION, StudyMethod, StudyScenario

MAIN_SCENARIOS = (HEADLINE, "cross", "joint", "text")  # the paper's, in its order of heterogeneity
PUBLISHED = "fedcmp"
_MOST_FEATURED = 6


@dataclass(frozen=True)
class Results:
    """The scenarios that have runs: the paper's four first, then the others in the study's order."""

    study: Study
    comparisons: tuple[Comparison, ...]

    @classmethod
    def of(cls, study: Study) -> "Results":
        """Compare the methods of every scenario that has runs."""
        ran = {run.scenario for run in study.runs}
        names = [*(name for name in MAIN_SCENARIOS if name in ran)]
        names += [name for name in study.scenarios if name in ran and name not in names]
        found = [main_comparison(study, study.scenarios[name]) for name in names]
        return cls(study, tuple(comparison for comparison in found if comparison.entries or comparison.references))

    @property
    def headline(self) -> Comparison | None:
        """Return the image clusters, or else the first scenario."""
        return next(iter(self.comparisons), None)

    @property
    def methods(self) -> list[StudyMethod]:
        """Return the methods of the main tables that ran anywhere, in the study's order."""
        ran = {entry.method.name for one in self.comparisons for entry in (*one.entries, *one.references)}
        return [method for name, method in self.study.methods.items() if name in ran]

    @property
    def featured(self) -> tuple[str, ...]:
        """Return the federated methods whose curves are drawn in colour: ours, FedAvg, then the best of the others.

        The others go by their mean place by caption loss over the scenarios in which they ran.
        """
        federated = [method.name for method in self.methods if method.federated]
        known = [name for name in (OURS, PUBLISHED, FEDAVG) if name in federated]
        others = sorted((name for name in federated if name not in known), key=lambda name: (self._place(name), name))
        return (*known, *others[: _MOST_FEATURED - len(known)])

    def _place(self, name: str) -> float:
        order = [[entry.method.name for entry in one.entries] for one in self.comparisons]
        places = [names.index(name) for names in order if name in names]
        return statistics.fmean(places) if places else math.inf

    @property
    def palette(self) -> Palette:
        """Return a colour for every method of the study that is not an arm of an ablation only, run or not."""
        names = [name for name, method in self.study.methods.items() if method.family != ABLATION]
        return Palette.of(names, first=self.featured)

    @property
    def ablations(self) -> dict[str, list[tuple[StudyScenario, Comparison]]]:
        """Ablation table -> the scenarios in which it ran, tables 3 and 4 first.

        Methods of the main tables may be arms too: a table ran where two arms did, one of them its own if it has any.
        """
        tables = sorted({table for method in self.study.methods.values() for table in method.arms})
        found = {
            table: [
                (scenario, comparison)
                for scenario in self._ordered_scenarios()
                if _ran(comparison := arms_comparison(self.study, scenario, table))
            ]
            for table in tables
        }
        return {table: comparisons for table, comparisons in found.items() if comparisons}

    def _ordered_scenarios(self) -> list[StudyScenario]:
        scenarios = self.study.scenarios
        first = [scenarios[name] for name in MAIN_SCENARIOS if name in scenarios]
        return first + [scenario for name, scenario in scenarios.items() if name not in MAIN_SCENARIOS]


def _ran(one: Comparison) -> bool:
    ran = [entry.method for entry in one.entries]
    own = [method for method in (*ran, *one.absent) if method.family == ABLATION]
    return len(ran) > 1 and (not own or any(method in own for method in ran))
