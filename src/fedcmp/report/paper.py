"""The paper's own figures: paper_tables.json, its tables 1 to 9 as they were copied by hand, with notes.

    tables 1, 2, 7, 8    nine methods x seven benchmarks, one scenario each (image, text, joint, cross)
    table 3              which parts of Fed-CMP do what, on three benchmarks; table 4: the reliability weights
    tables 5, 6          tuning after pretraining, on two data sets; table 9: pairs of each client

The reader is strict: a method, a benchmark or a cell that is missing, unknown or of another type raises. The paper
gives no seeds and no error bars. MME is a sum, the others are per cent.
"""

import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

ARXIV = "arXiv 2603.26786"
Scenario = Literal["image", "text", "joint", "cross"]
Title = Literal[
    "Local Training",
    "FedAvg",
    "FedAdam",
    "FedProx",
    "MOON",
    "FedAvg-TA",
    "FedAvg-TIEs",
    "FedAvg-DARE",
    "Fed-CMP",
]
Benchmark = Literal["MM-Vet", "MMBench", "SEED", "LLaVA-Bench", "POPE", "MME", "MMVP"]
Part = Literal["CSC", "RWF", "OPM"]
Five = Field(min_length=5, max_length=5)
# the paper's scenarios by how unlike the clients are, the most unlike first: the order of its gains
BY_HETEROGENEITY: tuple[Scenario, ...] = ("image", "cross", "joint", "text")
# the paper's names -> ours
METHODS: Mapping[Title, str] = {
    "Local Training": "local",
    "FedAvg": "fedavg",
    "FedAdam": "fedadam",
    "FedProx": "fedprox",
    "MOON": "moon",
    "FedAvg-TA": "task-arithmetic",
    "FedAvg-TIEs": "ties",
    "FedAvg-DARE": "dare",
    "Fed-CMP": "fedcmp",
}
BENCHMARKS: Mapping[Benchmark, str] = {
    "MM-Vet": "mm-vet",
    "MMBench": "mmbench",
    "SEED": "seed",
    "LLaVA-Bench": "llava-bench",
    "POPE": "pope",
    "MME": "mme",
    "MMVP": "mmvp",
}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class ScoreTable(_Strict):
    """One of the tables 1, 2, 7 and 8: scores by method and benchmark, every cell there."""

    table: int
    rows: dict[Title, dict[Benchmark, float]]

    @model_validator(mode="after")
    def _complete(self) -> Self:
        _check_names("rows", self.rows, get_args(Title))
        for title, scores in self.rows.items():
            _check_names(title, scores, get_args(Benchmark))
        return self

    def ranks(self) -> dict[Title, float]:
        """Return each method's mean rank over the benchmarks, 1 is best."""
        order = {name: sorted((row[name] for row in self.rows.values()), reverse=True) for name in get_args(Benchmark)}
        return {
            title: statistics.fmean(order[name].index(score) + 1 for name, score in scores.items())
            for title, scores in self.rows.items()
        }

    def gain(self) -> float:
        """Return Fed-CMP's gain over FedAvg as a share of FedAvg's score, mean over the benchmarks."""
        ours, theirs = self.rows["Fed-CMP"], self.rows["FedAvg"]
        return statistics.fmean(ours[name] / theirs[name] - 1 for name in get_args(Benchmark))


class Ablation(_Strict):
    """Table 3: (parts that are there, scores by column) per row."""

    table: Literal[3]
    scenario: Scenario
    columns: tuple[Benchmark, ...]
    rows: tuple[tuple[tuple[Part, ...], tuple[float, ...]], ...]
    note: str

    @model_validator(mode="after")
    def _complete(self) -> Self:
        _check_widths(self.columns, [scores for _, scores in self.rows])
        return self


class Reliability(_Strict):
    """Table 4: (which weights, scores by column) per row."""

    table: Literal[4]
    scenario: Scenario
    columns: tuple[Benchmark, ...]
    rows: tuple[tuple[str, tuple[float, ...]], ...]
    note: str

    @model_validator(mode="after")
    def _complete(self) -> Self:
        _check_widths(self.columns, [scores for _, scores in self.rows])
        return self


class TuningSet(_Strict):
    """A column of table 5: a data set that projectors are tuned on further."""

    clients: tuple[str, ...] = Five
    total: str
    test: str
    metric: str


class TuningData(_Strict):
    """Table 5."""

    table: Literal[5]
    GQA: TuningSet
    OCRVQA: TuningSet


class TunedScores(_Strict):
    """One data set of table 6: scores of the five clients' models, by the method that pretrained the projector."""

    fedavg: tuple[float, ...] = Field(alias="FedAvg", min_length=5, max_length=5)
    ties: tuple[float, ...] = Field(alias="FedAvg-TIEs", min_length=5, max_length=5)
    fedcmp: tuple[float, ...] = Field(alias="Fed-CMP", min_length=5, max_length=5)


class Tuning(_Strict):
    """Table 6."""

    table: Literal[6]
    note: str
    GQA: TunedScores
    OCRVQA: TunedScores


class Sizes(_Strict):
    """Table 9: pairs of each client, and their share in per cent."""

    table: Literal[9]
    clusters: dict[Scenario, tuple[str, ...]]
    percent: dict[Scenario, tuple[float, ...]]

    @model_validator(mode="after")
    def _complete(self) -> Self:
        for name, found in (("clusters", self.clusters), ("percent", self.percent)):
            _check_names(name, found, get_args(Scenario))
            _check_widths(range(5), found.values())
        return self


class Setup(_Strict):
    """What the paper says of its experiments."""

    clients: int
    rounds: int
    vision: str
    language: str
    projector: str
    schedule: str
    gamma: float
    hardware: str
    heterogeneity: str
    figure_4: str


class Paper(_Strict):
    """All of it; `scores` by scenario."""

    source: str
    scores: dict[Scenario, ScoreTable]
    ablation: Ablation
    reliability: Reliability
    tuning_data: TuningData
    tuning: Tuning
    sizes: Sizes
    setup: Setup

    @model_validator(mode="after")
    def _complete(self) -> Self:
        _check_names("scores", self.scores, get_args(Scenario))
        return self


def _check_names(place: str, found: Collection[str], wanted: tuple[str, ...]) -> None:
    if missing := [name for name in wanted if name not in found]:
        raise ValueError(f"{place}: {', '.join(missing)} missing")


def _check_widths(columns: Sequence[object], rows: Iterable[Sequence[object]]) -> None:
    if any(len(row) != len(columns) for row in rows):
        raise ValueError(f"a row has not {len(columns)} cells")


def read_paper(content: str) -> Paper:
    """Read the tables.

    Args:
        content: JSON.

    Raises:
        ValueError: something is missing, unknown or of another type; names the place.
    """
    return Paper.model_validate_json(content)


@cache
def paper() -> Paper:
    """Return the paper's tables, as they are in the package."""
    return read_paper(resources.files("fedcmp.report").joinpath("paper_tables.json").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class PaperRow:
    """A row of a table: its title, our method that stands for it, scores by our names of the benchmarks."""

    title: str
    method: str
    scores: Mapping[str, float]


@dataclass(frozen=True)
class PaperTable:
    """Methods x benchmarks of one scenario, by its number in the paper."""

    table: str
    scenario: str
    rows: tuple[PaperRow, ...]


def paper_table_of(scenario: str) -> PaperTable | None:
    """Return the table of methods x benchmarks of a scenario, None where the paper has no such scenario."""
    found = next((table for name, table in paper().scores.items() if name == scenario), None)
    if found is None:
        return None
    rows = [
        PaperRow(title, METHODS[title], {BENCHMARKS[name]: score for name, score in scores.items()})
        for title, scores in found.rows.items()
    ]
    return PaperTable(str(found.table), scenario, tuple(rows))
