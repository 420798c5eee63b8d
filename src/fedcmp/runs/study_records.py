"""The records of a study: what its files hold, one model per kind of file; written by study/, read by report/study.

    StudyPlan       study.json                          scenarios, methods and seeds as planned
    StudyRun        runs/SCENARIO/METHOD/seed-S.json    one run
    Blind           references/blind.json               the LLM without images
    ScenarioFacts   scenarios/SCENARIO/seed-S.json      who holds what
    Tuning          tuning/METHOD.json                  the trials of a method and the settings chosen

As for a run's own records (runs/records.py), a writer is held to the types, while a reader takes what there is. What no
report reads is not kept. Figures are a mean over local-only clients' own models where there is no global one.

A method may be an arm of ablation tables: "3" is the paper's ablation of its parts (CSC, RWF, OPM), "4" that of the
reliability weights (magnitude, quality, gamma); any other name makes a further table, headed by that name. Any method
can be an arm; those of the family "ablation" appear in ablation tables only.
"""

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Self

from pydantic import Field

from fedcmp.runs.fields import Count, Lenient, Number, Record, Text, Texts, Whole, number, table, text, whole
from fedcmp.runs.records import WORLD_SUITES, world_suite

FORMAT = 1  # of all these files
ABLATION = "ablation"  # the family of methods that appear in ablation tables only
_LOSSES = ("caption_loss", "worst_family_loss", "worst_client_loss", "mean_loss")
Arm = bool | float | str


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _wholes(value: object) -> list[int]:
    found = [whole(entry) for entry in _list(value)]
    return [entry for entry in found if entry is not None]


def _scores(value: object) -> dict[str, float]:
    """Scores by suite; a suite is a score, or an object that holds one (files of version 0.1)."""
    entries = table(value).items()
    found = {world_suite(k): number(v.get("score") if isinstance(v, Mapping) else v) for k, v in entries}
    return {name: score for name, score in found.items() if score is not None}


Table = Annotated[dict[str, Any], Lenient(lambda value: dict(table(value)))]
Form = Annotated[int, Lenient(lambda value: FORMAT if whole(value) is None else whole(value))]


class StudyScenario(Record):
    """Who holds what in one part of the study, and how much of it is planned."""

    name: Text
    title: Text
    seeds: Annotated[list[int], Lenient(_wholes)] = Field([])
    clients: Whole = None
    rounds: Whole = None
    captions: Whole = None

    @classmethod
    def named(cls, name: str, entry: Mapping[str, object] | None = None) -> Self:
        """Read an entry of study.json; the name stands in for a missing title."""
        return cls.from_line({"title": name, **(entry or {}), "name": name})


class StudyMethod(Record):
    """One way to learn; `arms`: ablation table -> what this method is made of there.

    Parts are True or False (shown as a tick), a number or a text.
    """

    name: Text
    title: Text
    federated: Annotated[bool, Lenient(lambda value: value is not False)] = True
    family: Annotated[str, Lenient(lambda value: text(value) or "baseline")] = "baseline"
    arms: Annotated[dict[str, dict[str, Arm]], Lenient(dict)] = Field({})

    @classmethod
    def named(cls, name: str, entry: Mapping[str, object] | None = None) -> Self:
        """Read an entry of study.json; the name stands in for a missing title."""
        given = dict(entry or {})
        parts = table(given.get("arms"))
        tables = given.get("table", list(parts))  # version 0.1: the tables under a key of their own
        arms = arms_of(tables, parts) if "table" in given or all(map(_is_table, parts.values())) else {}
        return cls.from_line({"title": name, **given, "arms": arms, "name": name})


def _is_table(value: object) -> bool:
    return isinstance(value, Mapping)


def arms_of(tables: object, parts: Mapping[str, object]) -> dict[str, dict[str, Arm]]:
    """Return the parts of an arm by ablation table.

    Args:
        tables: the table that shows it, or a list of several.
        parts: of one table, its parts; of several, the parts by table.
    """
    if isinstance(tables, list):
        return {text(str(name)): _parts(parts.get(str(name))) for name in tables}
    return {text(tables): _parts(parts)} if isinstance(tables, str) and tables else {}


def _parts(given: object) -> dict[str, Arm]:
    plain = {part: value for part, value in table(given).items() if isinstance(value, bool | int | float | str)}
    return {text(str(part)): text(value) if isinstance(value, str) else value for part, value in plain.items()}


class StudyPlan(Record):
    """What a study consists of, in the order in which reports show it.

    `sources` are the sections of its runs' recipes that say which data and frozen models they take, each combination
    once; none in files of version 0.2 and before.
    """

    format: Form = FORMAT
    name: Text
    scenarios: Annotated[
        dict[str, StudyScenario],
        Lenient(lambda value: {text(k): StudyScenario.named(text(k), table(v)) for k, v in table(value).items()}),
    ]
    methods: Annotated[
        dict[str, StudyMethod],
        Lenient(lambda value: {text(k): StudyMethod.named(text(k), table(v)) for k, v in table(value).items()}),
    ]
    tuning: Table = Field({})
    sources: Annotated[list[dict[str, Any]], Lenient(lambda value: [dict(table(e)) for e in _list(value)])] = Field([])


class StudyFigures(Record):
    """What was measured after one round: suites' scores (per cent, MME a sum), losses, question accuracy in [0, 1].

    Losses are in nats per caption token; `mean_loss` is the mean of caption loss and worst-family loss, `shuffled_loss`
    the caption loss with each caption at another image, after the last round only. `worst_client_loss` is the highest
    of the clients' losses: the families' losses, weighted by a client's pairs of each (None in files of version 0.2 and
    before).
    """

    round: Count = 0
    caption_loss: Number = None
    worst_family: Text = ""
    worst_family_loss: Number = None
    worst_client: Text = ""
    worst_client_loss: Number = None
    mean_loss: Number = None
    shuffled_loss: Number = None
    question_accuracy: Number = None
    suites: Annotated[dict[str, float], Lenient(_scores)] = Field({})

    @property
    def values(self) -> dict[str, float]:
        """Suites, losses and accuracy (per cent) side by side, as far as they are known."""
        losses = {key: getattr(self, key) for key in (*_LOSSES, "shuffled_loss")}
        if self.mean_loss is None and self.caption_loss is not None and self.worst_family_loss is not None:
            losses["mean_loss"] = (self.caption_loss + self.worst_family_loss) / 2
        questions = {"question_accuracy": None if self.question_accuracy is None else 100 * self.question_accuracy}
        return {key: value for key, value in {**self.suites, **losses, **questions}.items() if value is not None}


class StudyRun(Record):
    """One method in one scenario at one seed.

    `hash` is that of all that determines the result; `failed` says why there is none. `captions` counts training pairs,
    `held_out` those behind the losses, which are of `split` ("" in files of version 0.2 and before).
    """

    format: Form = FORMAT
    hash: Text
    scenario: Text
    method: Text
    seed: Count
    settings: Table = Field({})
    failed: Annotated[str, Lenient(lambda value: text(" ".join(str(value).split())) if value else "")] = ""
    federated: Annotated[bool, Lenient(lambda value: value is not False)] = True
    captions: Whole = None
    held_out: Whole = None
    split: Text = ""
    clients: Whole = None
    rounds: Whole = None
    versions: Texts = Field({})
    bytes_sent: Whole = None
    training_seconds: Number = None
    rounds_evaluated: Annotated[
        list[StudyFigures], Lenient(lambda value: [StudyFigures.from_line(table(line)) for line in _list(value)])
    ] = Field([])
    final: Annotated[StudyFigures, Lenient(lambda value: StudyFigures.from_line(table(value)))] = StudyFigures()

    @cached_property
    def values(self) -> dict[str, float]:
        """The final figures, see StudyFigures; NaN for a run that failed, so that its method does not gain from it."""
        return dict.fromkeys((*WORLD_SUITES, *_LOSSES), math.nan) if self.failed else self.final.values

    @property
    def points(self) -> tuple[StudyFigures, ...]:
        """Figures of the evaluated rounds in their order, each round once: the later line counts."""
        found = {point.round: point for point in self.rounds_evaluated}
        return tuple(found[round_] for round_ in sorted(found))

    @property
    def worst_family(self) -> str:
        """The content family of the highest loss at the end."""
        return self.final.worst_family

    @property
    def seconds(self) -> float | None:
        """Seconds of training, all workers together."""
        return self.training_seconds


class BlindSuite(Record):
    """A suite asked without images: score, that of a guess, standard error of one score over the items, their hash."""

    score: Number
    chance: Number = None
    noise: Number = None
    items: Whole = None
    hash: Text = ""


def _blind_suites(value: object) -> dict[str, BlindSuite]:
    return {
        world_suite(k): BlindSuite.from_line(v if isinstance(v, Mapping) else {"score": v})
        for k, v in table(value).items()
    }


class Blind(Record):
    """The LLM without images: what every suite and caption loss is compared with."""

    format: Form = FORMAT
    hash: Text = ""
    caption_loss: Number
    worst_family_loss: Number
    suites: Annotated[dict[str, BlindSuite], Lenient(_blind_suites)] = Field({})

    @property
    def values(self) -> dict[str, float]:
        """Scores and losses under the keys of `StudyRun.values`."""
        scores = {name: suite.score for name, suite in self.suites.items() if suite.score is not None}
        losses = {"caption_loss": self.caption_loss, "worst_family_loss": self.worst_family_loss}
        return StudyFigures.from_line({**losses, "suites": scores}).values

    @property
    def chance(self) -> dict[str, float]:
        """The score of a guess per suite."""
        return {name: suite.chance for name, suite in self.suites.items() if suite.chance is not None}

    @property
    def noise(self) -> dict[str, float]:
        """The standard error of one score over a suite's items."""
        return {name: suite.noise for name, suite in self.suites.items() if suite.noise is not None}


def flat(given: object, prefix: str = "") -> dict[str, float]:
    """Return the numbers of a nest of objects, named by their path ("silhouette image"); lists are passed over."""
    found: dict[str, float] = {}
    for key, value in table(given).items():
        name = f"{prefix}{key}"
        known = number(value)
        found.update(flat(value, f"{name} ") if known is None else {name: known})
    return found


class PairMap(Record):
    """A map of a subsample of the pairs in two dimensions, each with its client."""

    metric: Text = ""
    x: Annotated[list[float | None], Lenient(lambda value: [number(entry) for entry in _list(value)])] = Field([])
    y: Annotated[list[float | None], Lenient(lambda value: [number(entry) for entry in _list(value)])] = Field([])
    client: Annotated[list[int | None], Lenient(lambda value: [whole(entry) for entry in _list(value)])] = Field([])


class ScenarioFacts(Record):
    """How a scenario divides the pairs at one seed: clients' sizes, measures of heterogeneity, a map of a subsample."""

    format: Form = FORMAT
    hash: Text = ""
    seed: Count = 0
    sizes: Annotated[list[int], Lenient(_wholes)]
    heterogeneity: Annotated[dict[str, float], Lenient(flat)]
    map: Annotated[PairMap, Lenient(lambda value: PairMap.from_line(table(value)))] = PairMap()

    @property
    def metric(self) -> str:
        """The similarity that the map shows."""
        return self.map.metric

    @property
    def points(self) -> tuple[tuple[float, float, int], ...]:
        """(x, y, client) of each pair on the map; those with a gap are left out."""
        found = zip(self.map.x, self.map.y, self.map.client, strict=False)
        return tuple((x, y, c) for x, y, c in found if x is not None and y is not None and c is not None)


class Trial(Record):
    """One setting tried on few pairs; without losses if it diverged."""

    settings: Table
    captions: Whole
    hash: Text
    caption_loss: Number
    worst_family_loss: Number
    mean_loss: Number


class Tuning(Record):
    """The trials by which one method's settings were chosen."""

    method: Text
    scenario: Text
    seed: Whole
    trials: Annotated[list[Trial], Lenient(lambda value: [Trial.from_line(table(line)) for line in _list(value)])]
    chosen: Annotated[dict[str, Any] | None, Lenient(lambda value: dict(table(value)))]
