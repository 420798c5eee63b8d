"""From a study's folder to records: study.json, runs, references, scenarios, tuning, read as they lie.

    study.json                              scenarios, methods, the plan
    runs/SCENARIO/METHOD/seed-S.json        one run
    references/blind.json                   the LLM without images
    scenarios/SCENARIO/seed-S.json          who holds what
    tuning/METHOD.json                      trials and the settings chosen
    benchmarks/SCENARIO/METHOD/seed-S/      the paper's benchmarks, one file each

A study that is still going reads like any other: what is missing is not there. Nothing but these files is looked at.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fedcmp.checksums import Damaged, unsealed
from fedcmp.errors import UserError
from fedcmp.report.toy import TOY_WORLD, toy_line
from fedcmp.runs.benchmark_results import Results, read_results
from fedcmp.runs.fields import number, text
from fedcmp.runs.study_records import (
    FORMAT,
    Blind,
    ScenarioFacts,
    StudyMethod,
    StudyPlan,
    StudyRun,
    StudyScenario,
    Tuning,
)

_SEED_FILE = re.compile(r"seed-(\d+)\.json")


@dataclass(frozen=True)
class Study:
    """All records of one folder; methods and scenarios in the order of study.json, unknown ones behind."""

    name: str
    scenarios: Mapping[str, StudyScenario]
    methods: Mapping[str, StudyMethod]
    runs: tuple[StudyRun, ...]
    blind: Blind | None = None
    holdings: Mapping[str, tuple[ScenarioFacts, ...]] = field(default_factory=dict)
    tuning: tuple[Tuning, ...] = ()
    benchmarks: Mapping[tuple[str, str, int], Results] = field(default_factory=dict)
    sources: tuple[Mapping[str, object], ...] = ()

    @property
    def toy(self) -> str:
        """Return what of the study is the embedded toy world: all of an old one that asked the world's suites."""
        suites = (self.blind is not None and self.blind.suites) or any(run.final.suites for run in self.runs)
        return toy_line(self.sources) if self.sources else TOY_WORLD if suites else ""


def load_study(folder: Path) -> Study:
    """Read a study's folder.

    Args:
        folder: one that holds study.json.

    Returns:
        What is there; a run of a method or scenario that study.json does not name is kept under its own name.

    Raises:
        UserError: no such folder, no study in it, or a file that is not what it should be.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name the folder that holds study.json")
    if not (folder / "study.json").is_file():
        raise UserError(f"{folder}: no study in it (a study's folder holds study.json); name another folder")
    plan = StudyPlan.from_line(_read(folder / "study.json"))
    scenarios, methods = dict(plan.scenarios), dict(plan.methods)
    runs = tuple(_runs(folder / "runs"))
    for run in runs:
        scenarios.setdefault(run.scenario, StudyScenario.named(run.scenario))
        methods.setdefault(run.method, StudyMethod.named(run.method, {"federated": run.federated}))
    blind = folder / "references" / "blind.json"
    return Study(
        name=plan.name or text(folder.resolve().name),
        scenarios=scenarios,
        methods=methods,
        runs=runs,
        blind=Blind.from_line(_read(blind)) if blind.is_file() else None,
        holdings={
            name: tuple(
                ScenarioFacts.from_line({**_read(path), "seed": seed})
                for seed, path in _seed_files(folder / "scenarios" / name)
            )
            for name in scenarios
        },
        tuning=tuple(
            Tuning.from_line({**_read(path), "method": path.stem})
            for path in sorted((folder / "tuning").glob("*.json"))
        ),
        benchmarks=dict(_benchmarks(folder / "benchmarks")),
        sources=tuple(plan.sources),
    )


def _runs(folder: Path) -> Iterator[StudyRun]:
    for place in sorted(path for path in folder.glob("*/*") if path.is_dir()):
        scenario, method = place.parent.name, place.name
        for seed, path in _seed_files(place):
            content = _read(path)
            for key, expected in (("scenario", scenario), ("method", method), ("seed", seed)):
                if key in content and content[key] != expected:
                    raise UserError(f"{path}: {key} = {content[key]!r}, but its place says {expected!r}; move it")
            yield StudyRun.from_line({**content, "scenario": scenario, "method": method, "seed": seed})


def _benchmarks(folder: Path) -> Iterator[tuple[tuple[str, str, int], Results]]:
    for place in sorted(folder.glob("*/*/seed-*")):
        seed = place.name.removeprefix("seed-")
        if seed.isdecimal() and (found := read_results(place)).models:
            yield (place.parent.parent.name, place.parent.name, int(seed)), found


def _seed_files(folder: Path) -> list[tuple[int, Path]]:
    """The files seed-S.json of a folder by seed; any other file is passed over, as one that is still being written."""
    found = [(match, path) for path in folder.glob("*.json") if (match := _SEED_FILE.fullmatch(path.name))]
    return sorted((int(match[1]), path) for match, path in found)


def _read(path: Path) -> Mapping[str, object]:
    try:
        content = unsealed(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the file's permissions") from error
    except Damaged as error:
        raise UserError(f"{path}: damaged ({error}); remove it and run the study again") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON ({error}); remove it and run the study again") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds no JSON object; remove it and run the study again")
    form = number(content.get("format"))
    if form is not None and form != FORMAT:
        raise UserError(f"{path}: format {form:g}, but this version reads {FORMAT}; use the fedcmp that wrote it")
    return content
