"""Runs gathered into methods: seeds of one method together, their figures as mean and spread, their curves.

A figure's spread is the sample standard deviation over seeds. A method with one seed whose result is many models (each
client's own) has the spread over those clients instead, and says so.
"""

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fedcmp.runs.reading import Run
from fedcmp.runs.records import SPLITS, Evaluation

# Noise of one seed on the embedded world, in nats of caption loss: two methods closer than this are not told apart.
SEED_NOISE = 0.005
_TOO_LONG = 1e6  # from here on a measured number is written with an exponent (a count is not)
_NAMES_THE_RUN = ("run.name", "run.seed", "run.folder", "run.method", "run.methods")


@dataclass(frozen=True)
class Metric:
    """What an evaluation measures: its attribute, title, unit, and how it is written down."""

    key: str
    title: str
    unit: str
    lower_is_better: bool
    decimals: int
    scale: float = 1.0

    @property
    def better(self) -> Literal["low", "high"]:
        """Which values are the better ones."""
        return "low" if self.lower_is_better else "high"

    @property
    def direction(self) -> str:
        """Return the same in words."""
        return f"{self.better}er is better"

    def write(self, value: float | None, *, sign: bool = False) -> str:
        """Write a value in the metric's unit (without the unit itself); a dash where it was not measured."""
        return write_number(None if value is None else value * self.scale, self.decimals, sign=sign)


CAPTION_LOSS = Metric("caption_loss", "Caption loss", "nats/token", True, 3)
WORST_GROUP = Metric("worst_group_loss", "Worst-group loss", "nats/token", True, 3)
ACCURACY = Metric("question_accuracy", "Question accuracy", "%", False, 1, scale=100.0)
METRICS = (CAPTION_LOSS, WORST_GROUP, ACCURACY)
# a reference, neither good nor bad by itself: what the same projector reaches when captions come with other images
SHUFFLED = Metric("shuffled_loss", "Shuffled images", "nats/token", True, 3)


def write_number(value: float | None, decimals: int, *, sign: bool = False) -> str:
    """Write a number with a fixed count of decimals and a true minus sign; "diverged" where it is not finite."""
    if value is None:
        return "–"
    if not math.isfinite(value):
        return "diverged"
    if abs(value) >= _TOO_LONG and decimals:
        return f"{value:.1e}".replace("-", "−")
    return f"{value:{'+' if sign else ''},.{decimals}f}".replace("-", "−").replace(",", "\u202f")


@dataclass(frozen=True)
class MeanSpread:
    """A mean, its sample standard deviation (None for a single value), how many values and of what."""

    mean: float
    spread: float | None = None
    count: int = 1
    over: Literal["seeds", "clients"] = "seeds"

    @classmethod
    def of(cls, values: Sequence[float], over: Literal["seeds", "clients"]) -> "MeanSpread":
        """Summarise one value or more."""
        if not all(math.isfinite(value) for value in values):
            return cls(math.nan, None, len(values), over)
        return cls(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values), over)

    @property
    def rank(self) -> float:
        """Return the mean as a sort key, lower first; a diverged run comes last."""
        return self.mean if math.isfinite(self.mean) else math.inf


@dataclass(frozen=True)
class CurvePoint:
    """One round of a curve: the mean over seeds (and clients) and the spread over seeds."""

    round: int
    mean: float
    spread: float | None


@dataclass(frozen=True)
class MethodEntry:
    """All runs of one way to learn, one a seed, under the label that every table and figure uses."""

    label: str
    name: str
    runs: tuple[Run, ...]

    @property
    def federated(self) -> bool:
        """Tell whether clients met over a server."""
        return self.runs[0].federated

    @property
    def finished(self) -> bool:
        """Tell whether every run of the method came to its end."""
        return all(run.finished for run in self.runs)

    @property
    def counted(self) -> tuple[Run, ...]:
        """Return the runs whose figures count: the finished ones, or all of them as long as none has finished."""
        return tuple(run for run in self.runs if run.finished) or self.runs

    def last_measures(self) -> list[tuple[Evaluation, ...]]:
        """For each counted run, what its model (or its clients' models) last scored."""
        found = []
        for run in self.counted:
            measures = run.measures(run.split)
            if measures:
                found.append(measures[max(measures)])
        return found

    def value(self, metric: Metric) -> MeanSpread | None:
        """Return the method's last value of a metric, None where nothing was measured."""
        return _summarise([[getattr(line, metric.key) for line in lines] for lines in self.last_measures()])

    def part_values(self, attribute: Literal["group_losses", "accuracy_by_kind"]) -> dict[str, MeanSpread]:
        """Return the method's last values by group, or by question kind."""
        measures = self.last_measures()
        names = ordered(name for lines in measures for line in lines for name in getattr(line, attribute))
        found = {
            name: _summarise([[getattr(line, attribute).get(name) for line in lines] for lines in measures])
            for name in names
        }
        return {name: figure for name, figure in found.items() if figure is not None}

    @property
    def held_out_pairs(self) -> int | None:
        """Count the held-out pairs behind the last figures (the fewest of all runs), None where that is not noted."""
        return min((line.captions for lines in self.last_measures() for line in lines if line.captions), default=None)

    def worst_group(self) -> str:
        """Return the group that most evaluations name as the hardest."""
        named = Counter(line.worst_group for lines in self.last_measures() for line in lines if line.worst_group)
        return named.most_common(1)[0][0] if named else ""

    def curve(self, metric: Metric, split: str) -> list[CurvePoint]:
        """Return the metric over the rounds that all counted runs have reached and at which it was measured."""
        by_run = [run.measures(split) for run in self.counted]
        shared = [round_ for round_ in by_run[0] if all(round_ in measures for measures in by_run)]
        points = []
        for round_ in shared:
            figure = _summarise([[getattr(line, metric.key) for line in measures[round_]] for measures in by_run])
            if figure is not None and math.isfinite(figure.mean):
                points.append(CurvePoint(round_, figure.mean, figure.spread if figure.over == "seeds" else None))
        return points


def _summarise(by_run: Iterable[Iterable[float | None]]) -> MeanSpread | None:
    groups = [[value for value in values if value is not None] for values in by_run]
    groups = [values for values in groups if values]
    if not groups:
        return None
    if len(groups) == 1:
        return MeanSpread.of(groups[0], "clients" if len(groups[0]) > 1 else "seeds")
    return MeanSpread.of([statistics.fmean(values) for values in groups], "seeds")


def write_span(values: Iterable[int | None]) -> str:
    """Write the range of the counts that are known and not zero: "5", "3 to 20"; "" for none."""
    known = [value for value in values if value]
    if not known:
        return ""
    low, high = write_number(min(known), 0), write_number(max(known), 0)
    return low if low == high else f"{low} to {high}"


def best_written(metric: Metric, values: Iterable[float | None]) -> list[str]:
    """Return the finite values as they are written, each once, best first: equal ones share a mark.

    Fewer than two of them distinguish nothing: then the list is empty.
    """
    known = sorted(value for value in values if value is not None and math.isfinite(value))
    found = ordered(metric.write(value) for value in (known if metric.lower_is_better else reversed(known)))
    return found if len(found) > 1 else []


def say_group(name: str) -> str:
    """Name a group so that it is not read as a word of the sentence around it: groups are called "count", "number"."""
    return f"group “{name}”" if name else ""


def ordered(names: Iterable[str]) -> list[str]:
    """Return the names once each, in the order of their first appearance."""
    return list(dict.fromkeys(names))


def gather(runs: Sequence[Run]) -> list[MethodEntry]:
    """Group runs into methods: federated ones by caption loss, best first, then the references.

    Runs of one method are its seeds. Where a seed comes twice, the method was run with different options: each setting
    becomes a method of its own, labelled by the options that differ.
    """
    by_name: dict[str, list[Run]] = {}
    for run in runs:
        by_name.setdefault(run.method, []).append(run)
    methods: list[MethodEntry] = []
    for name, group in by_name.items():
        if _one_a_seed(group):
            methods.append(MethodEntry(name, name, tuple(group)))
        else:
            methods.extend(_split(name, group))
    place = {"centralized": 1, "centralized-large-batch": 2, "local": 3}

    def key(method: MethodEntry) -> tuple[int, float, str]:
        loss = method.value(CAPTION_LOSS)
        return place.get(method.name, 0), loss.rank if loss else math.inf, method.label

    return sorted(methods, key=key)


def _one_a_seed(runs: Sequence[Run]) -> bool:
    return len({run.seed for run in runs}) == len(runs)


def _split(name: str, runs: Sequence[Run]) -> list[MethodEntry]:
    settings = [{key: value for key, value in settings_of(run).items() if key not in _NAMES_THE_RUN} for run in runs]
    keys = [key for key in ordered(key for setting in settings for key in setting) if _differ(key, settings)]
    variants: dict[tuple[str, ...], list[Run]] = {}
    for run, setting in zip(runs, settings, strict=True):
        variants.setdefault(tuple(f"{key.split('.')[-1]}={setting.get(key)}" for key in keys), []).append(run)
    if not keys or len(keys) > 2 or not all(_one_a_seed(group) for group in variants.values()):
        distinct = len({run.folder.name for run in runs}) == len(runs)
        depth = 1 if distinct else 2
        return [MethodEntry(f"{name} ({'/'.join(run.folder.parts[-depth:])})", name, (run,)) for run in runs]
    return [MethodEntry(f"{name} ({', '.join(variant)})", name, tuple(group)) for variant, group in variants.items()]


def _differ(key: str, settings: Sequence[Mapping[str, str]]) -> bool:
    return len({setting.get(key) for setting in settings}) > 1


def settings_of(run: Run) -> dict[str, str]:
    """Flatten a run's recipe to dotted keys, its versions and hashes left out: they describe, they do not set."""
    flat: dict[str, str] = {}

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for key, entry in value.items():
                walk(f"{prefix}.{key}" if prefix else str(key), entry)
        elif not prefix.startswith("versions.") and not prefix.endswith("hash"):
            flat[prefix] = str(value)

    walk("", run.recipe)
    return flat


def labelled_runs(methods: Sequence[MethodEntry]) -> list[tuple[str, Run]]:
    """Return every run under its method's label, with its seed where the method has several."""
    return [
        (f"{method.label}, seed {run.seed}" if len(method.runs) > 1 else method.label, run)
        for method in methods
        for run in method.runs
    ]


def recipe_differences(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Return the recipe's keys whose values differ between runs, each with its value in every run ("–": not set)."""
    settings = [settings_of(run) for run in runs]
    keys = ordered(key for setting in settings for key in setting)
    return {
        key: [setting.get(key, "–") for setting in settings]
        for key in keys
        if _differ(key, settings) and key not in _NAMES_THE_RUN
    }


def curve_split(methods: Sequence[MethodEntry]) -> str:
    """Return the split whose curves hold the most rounds over all methods; of equals the first of SPLITS."""
    rounds = {split: sum(len(run.measures(split)) for method in methods for run in method.runs) for split in SPLITS}
    return max(SPLITS, key=lambda split: rounds[split])


def reference_value(methods: Sequence[MethodEntry], model: str, metric: Metric) -> MeanSpread | None:
    """Return a figure of a model that does not learn, over seeds; each counts once however many runs measured it."""
    by_seed: dict[int | None, float] = {}
    for line, seed in _references(methods, model):
        value = getattr(line, metric.key)
        if value is not None:
            by_seed.setdefault(seed, value)
    return MeanSpread.of(list(by_seed.values()), "seeds") if by_seed else None


def reference_line(methods: Sequence[MethodEntry], model: str) -> Evaluation | None:
    """Return the first evaluation of a model that does not learn, for its figures by group and by question kind."""
    return next((line for line, _ in _references(methods, model)), None)


def _references(methods: Sequence[MethodEntry], model: str) -> list[tuple[Evaluation, int | None]]:
    found = []
    for method in methods:
        for run in method.runs:
            line = run.reference(model)
            if line is not None:
                found.append((line, run.seed))
    return found
