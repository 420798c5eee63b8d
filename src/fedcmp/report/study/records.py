"""What a study's files hold, as typed records: scenarios, methods, runs, references, tuning.

The files are untrusted: a key that is missing or of the wrong type becomes empty, an unknown key is passed over.

A method's row in study.json may say that it is an arm of an ablation (this extends the row's title, federated, family):

    "table": "3"                 the ablation tables that show it; a list of names where it is an arm of several
    "arms":  {"CSC": true, "RWF": false, "OPM": true}      what the arm is made of: true or false (shown as a tick), a
                                 number or a text; where "table" is a list, one such object a table:
                                 {"3": {"CSC": true, ..}, "4": {"magnitude": true, "quality": true, "gamma": 1}}

"3" is the paper's ablation of its parts (CSC, RWF, OPM), "4" that of the reliability weights (magnitude, quality,
gamma); any other name makes a further table, headed by that name. Any method can be an arm, of the family "ablation" or
not; those of the family "ablation" appear in ablation tables only.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from fedcmp.report.records import number, numbers, text, whole

ABLATION = "ablation"
SUITE_KEYS = ("mm-vet", "mmbench", "seed", "llava-bench", "pope", "mme", "mmvp")
_LOSSES = ("caption_loss", "worst_family_loss", "mean_loss")
Arm = bool | float | str


@dataclass(frozen=True)
class StudyScenario:
    """Who holds what in one part of the study, and how much of it was planned."""

    name: str
    title: str
    clients: int | None = None
    rounds: int | None = None
    captions: int | None = None
    seeds: tuple[int, ...] = ()

    @classmethod
    def from_entry(cls, name: str, entry: Mapping[str, object]) -> "StudyScenario":
        """Read an entry of study.json's "scenarios"."""
        given = entry.get("seeds")
        seeds = [whole(seed) for seed in given] if isinstance(given, list) else []
        return cls(
            name=name,
            title=text(entry.get("title")) or name,
            clients=whole(entry.get("clients")),
            rounds=whole(entry.get("rounds")),
            captions=whole(entry.get("captions")),
            seeds=tuple(seed for seed in seeds if seed is not None),
        )


@dataclass(frozen=True)
class StudyMethod:
    """One way to learn; `arms`: ablation table -> what this method is made of there."""

    name: str
    title: str
    federated: bool = True
    family: str = "baseline"
    arms: Mapping[str, Mapping[str, Arm]] = field(default_factory=dict)

    @classmethod
    def from_entry(cls, name: str, entry: Mapping[str, object]) -> "StudyMethod":
        """Read an entry of study.json's "methods"."""
        return cls(
            name=name,
            title=text(entry.get("title")) or name,
            federated=entry.get("federated") is not False,
            family=text(entry.get("family")) or "baseline",
            arms=_arms(entry.get("table"), entry.get("arms")),
        )


def _arms(tables: object, given: object) -> dict[str, dict[str, Arm]]:
    arms = given if isinstance(given, Mapping) else {}
    if isinstance(tables, list):
        return {str(table): _parts(arms.get(str(table))) for table in tables}
    return {tables: _parts(arms)} if isinstance(tables, str) and tables else {}


def _parts(given: object) -> dict[str, Arm]:
    entries = given.items() if isinstance(given, Mapping) else ()
    return {str(part): value for part, value in entries if isinstance(value, bool | int | float | str)}


@dataclass(frozen=True)
class RoundPoint:
    """What was measured after one round: the keys of `StudyRun.final`, as far as they were."""

    round: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class StudyRun:
    """One method in one scenario at one seed.

    `final` holds the suites' scores by name (per cent, MME a sum), caption_loss, worst_family_loss and mean_loss (nats
    per caption token), question_accuracy (per cent). Of a run that `failed` (which says why) every figure is NaN: it
    has no result, and that must not make its method look better.
    """

    scenario: str
    method: str
    seed: int
    federated: bool
    final: Mapping[str, float]
    worst_family: str = ""
    points: tuple[RoundPoint, ...] = ()
    settings: Mapping[str, object] = field(default_factory=dict)
    captions: int | None = None
    clients: int | None = None
    rounds: int | None = None
    seconds: float | None = None
    failed: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_file(cls, scenario: str, method: str, seed: int, content: Mapping[str, object]) -> "StudyRun":
        """Read the content of runs/SCENARIO/METHOD/seed-S.json."""
        final, settings, failed = _table(content.get("final")), _table(content.get("settings")), content.get("failed")
        rounds = content.get("rounds_evaluated")
        lines = [_table(line) for line in rounds] if isinstance(rounds, list) else []
        points = {point.round: point for point in (RoundPoint(whole(x.get("round")) or 0, _values(x)) for x in lines)}
        return cls(
            scenario=scenario,
            method=method,
            seed=seed,
            federated=content.get("federated") is not False,
            final=_values(final) if not failed else dict.fromkeys((*SUITE_KEYS, *_LOSSES), math.nan),
            worst_family=text(final.get("worst_family")),
            points=tuple(points[round_] for round_ in sorted(points)),
            settings=settings,
            captions=whole(content.get("captions")),
            clients=whole(content.get("clients")),
            rounds=whole(content.get("rounds")),
            seconds=number(content.get("training_seconds")),
            failed=" ".join(str(failed).split()) if failed else "",
            versions={str(name): str(version) for name, version in _table(content.get("versions")).items()},
        )


def _table(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _values(entry: Mapping[str, object]) -> dict[str, float]:
    """Figures and suites of one evaluation side by side; a suite is a score, or an object that holds one."""
    losses = {key: number(entry.get(key)) for key in _LOSSES}
    if losses["mean_loss"] is None and losses["caption_loss"] is not None and losses["worst_family_loss"] is not None:
        losses["mean_loss"] = (losses["caption_loss"] + losses["worst_family_loss"]) / 2
    suites = {
        str(name): number(given.get("score") if isinstance(given, Mapping) else given)
        for name, given in _table(entry.get("suites")).items()
    }
    accuracy = number(entry.get("question_accuracy"))
    questions = {"question_accuracy": None if accuracy is None else 100 * accuracy}
    return {key: value for key, value in {**suites, **losses, **questions}.items() if value is not None}


@dataclass(frozen=True)
class Blind:
    """The LLM without pictures: scores and losses under the keys of `StudyRun.final`; per suite chance, noise, items.

    `noise` is the standard error of one score over the suite's items, `chance` the score of a guess.
    """

    values: Mapping[str, float] = field(default_factory=dict)
    chance: Mapping[str, float] = field(default_factory=dict)
    noise: Mapping[str, float] = field(default_factory=dict)
    items: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def from_file(cls, content: Mapping[str, object]) -> "Blind":
        """Read the content of references/blind.json."""
        suites = {str(name): _table(entry) for name, entry in _table(content.get("suites")).items()}
        parts = {
            key: numbers({name: entry.get(key) for name, entry in suites.items()})
            for key in ("chance", "noise", "items")
        }
        return cls(_values(content), parts["chance"], parts["noise"], parts["items"])


@dataclass(frozen=True)
class Holding:
    """How a scenario divides the pairs at one seed: clients' sizes, measures of heterogeneity, a map of a subsample.

    A measure within a measure is named by both: {"silhouette": {"image": .1}} is "silhouette image".
    """

    seed: int
    sizes: tuple[int, ...] = ()
    heterogeneity: Mapping[str, float] = field(default_factory=dict)
    metric: str = ""
    points: tuple[tuple[float, float, int], ...] = ()  # (x, y, client)

    @classmethod
    def from_file(cls, seed: int, content: Mapping[str, object]) -> "Holding":
        """Read the content of scenarios/SCENARIO/seed-S.json."""
        sizes, drawn = content.get("sizes"), _table(content.get("map"))
        counted = [whole(size) for size in sizes] if isinstance(sizes, list) else []
        columns = [drawn.get(key) for key in ("x", "y", "client")]
        lists = [column if isinstance(column, list) else [] for column in columns]
        points = [(number(x), number(y), whole(client)) for x, y, client in zip(*lists, strict=False)]
        return cls(
            seed=seed,
            sizes=tuple(size for size in counted if size is not None),
            heterogeneity=_flat(content.get("heterogeneity")),
            metric=text(drawn.get("metric")),
            points=tuple((x, y, c) for x, y, c in points if x is not None and y is not None and c is not None),
        )


def _flat(given: object, prefix: str = "") -> dict[str, float]:
    """The numbers of a nest of objects, named by their path; lists are passed over."""
    flat: dict[str, float] = {}
    for key, value in _table(given).items():
        name = f"{prefix}{key}"
        known = number(value)
        flat.update(_flat(value, f"{name} ") if known is None else {name: known})
    return flat


@dataclass(frozen=True)
class Tuning:
    """The trials by which one method's settings were chosen: (settings, captions, caption loss) each."""

    method: str
    scenario: str = ""
    seed: int | None = None
    trials: tuple[tuple[Mapping[str, object], int | None, float | None], ...] = ()
    chosen: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def from_file(cls, method: str, content: Mapping[str, object]) -> "Tuning":
        """Read the content of tuning/METHOD.json."""
        given = content.get("trials")
        lines = [_table(line) for line in given] if isinstance(given, list) else []
        return cls(
            method=method,
            scenario=text(content.get("scenario")),
            seed=whole(content.get("seed")),
            trials=tuple(
                (_table(line.get("settings")), whole(line.get("captions")), number(line.get("caption_loss")))
                for line in lines
            ),
            chosen=_table(content.get("chosen")),
        )
