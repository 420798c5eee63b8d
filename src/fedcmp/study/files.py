"""Where a study keeps what it found, one small JSON file each, written whole or not at all.

study.json                          titles, families, arms, seeds: what the report needs beside the runs
runs/SCENARIO/METHOD/seed-S.json    a run
models/SCENARIO/METHOD/seed-S/      with study.benchmarks: the run's folder with its projector
benchmarks/SCENARIO/METHOD/seed-S/  one file a benchmark
references/blind.json               the LLM without pictures
scenarios/SCENARIO/seed-S.json      sizes, heterogeneity, a map
tuning/METHOD.json                  every trial, and what was chosen
claims/                             who does what now; gone when nobody runs the study
"""

import json
import logging
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from fedcmp.checksums import Damaged, sealed, unsealed
from fedcmp.files import write_whole
from fedcmp.locks import Claims
from fedcmp.references import is_federated
from fedcmp.runs.fields import Record
from fedcmp.runs.study_records import FORMAT, StudyMethod, StudyPlan, StudyScenario, arms_of
from fedcmp.study.plan import planned_run
from fedcmp.study.recipe import StudyRecipe

_LOG = logging.getLogger(__name__)
_SOURCES = {"data": ("format",), "model": ("vision", "language")}  # what a report says of a study's data and models


@dataclass(frozen=True)
class StudyFiles:
    """A study's folder."""

    folder: Path

    @property
    def blind(self) -> Path:
        """The blind LLM's figures."""
        return self.folder / "references" / "blind.json"

    def run(self, scenario: str, method: str, seed: int) -> Path:
        """A run's record."""
        return self.folder / "runs" / scenario / method / f"seed-{seed}.json"

    def model(self, scenario: str, method: str, seed: int) -> Path:
        """The folder of a run whose projector is kept."""
        return self.folder / "models" / scenario / method / f"seed-{seed}"

    def benchmarks(self, scenario: str, method: str, seed: int) -> Path:
        """The folder of a run's benchmarks."""
        return self.folder / "benchmarks" / scenario / method / f"seed-{seed}"

    def runs_of(self, scenario: str) -> list[Path]:
        """The records of a scenario that are there."""
        return sorted((self.folder / "runs" / scenario).glob("*/*.json"))

    def facts(self, scenario: str, seed: int) -> Path:
        """What was measured of a scenario's division."""
        return self.folder / "scenarios" / scenario / f"seed-{seed}.json"

    def tuning(self, method: str) -> Path:
        """A method's trials."""
        return self.folder / "tuning" / f"{method}.json"

    def claims(self) -> Claims:
        """What this process claims of the study."""
        return Claims(self.folder / "claims")

    def write(self, path: Path, record: Record) -> None:
        """Write one file, its folders with it."""
        write_json(path, record.line())

    def write_study(self, study: StudyRecipe) -> None:
        """study.json: titles and families, for the report."""
        scenarios, sources = {}, []
        for name, section in study.scenario.items():
            recipe = planned_run(study, name, "fedavg", section.seeds[0], {"learning_rate": 1e-3}).recipe
            content = {part: getattr(recipe, part).model_dump(mode="json") for part in _SOURCES}
            source = {part: {key: content[part][key] for key in keys} for part, keys in _SOURCES.items()}
            if recipe.data.world != "embedded":  # files of the embedded world stay as they were
                source["data"]["world"] = recipe.data.world
            sources.append(source)
            scenarios[name] = StudyScenario(
                name=name,
                title=section.title,
                seeds=section.seeds,
                clients=recipe.scenario.clients,
                rounds=recipe.federation.rounds,
                captions=recipe.data.num_pairs,
            )
        methods = {
            name: StudyMethod(
                name=name,
                title=section.title,
                family=section.family,
                federated=is_federated(name),
                arms=arms_of(section.table, section.arms),
            )
            for name, section in study.method.items()
        }
        tuning = study.tuning.model_dump(mode="json")
        plan = StudyPlan(
            format=FORMAT,
            name=study.study.name,
            scenarios=scenarios,
            methods=methods,
            tuning=tuning,
            sources=[source for place, source in enumerate(sources) if source not in sources[:place]],
        )
        self.write(self.folder / "study.json", plan)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write one JSON file with its checksum, whole or not at all, its folders with it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, (json.dumps(sealed(content), indent=1) + "\n").encode())


def read_record(path: Path) -> dict[str, Any] | None:
    """Return a record; None where there is none, or where it is damaged, which is logged: it is then made again."""
    try:
        record = unsealed(json.loads(path.read_text(encoding="utf-8")))
        if not isinstance(record, dict):
            raise Damaged("no JSON object")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        _say_damaged(path, str(error))
        return None
    return record


@lru_cache
def _say_damaged(path: Path, problem: str) -> None:
    """Once for each file, however often it is looked at."""
    _LOG.warning("%s: damaged (%s); it is made again", path, problem)
