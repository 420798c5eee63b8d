"""From a study's folder to records: study.json, runs, references, scenarios, tuning, read as they lie.

    study.json                              scenarios, methods, the plan
    runs/SCENARIO/METHOD/seed-S.json        one run
    references/blind.json                   the LLM without pictures
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

from fedcmp.errors import UserError
from fedcmp.report.benchmarks import Results as Benchmarked
from fedcmp.report.benchmarks import read_results
from fedcmp.report.records import number, text
from fedcmp.report.study.records import Blind, Holding, StudyMethod, StudyRun, StudyScenario, Tuning

FORMAT = 1
_SEED_FILE = re.compile(r"seed-(\d+)\.json")


@dataclass(frozen=True)
class Study:
    """All records of one folder; methods and scenarios in the order of study.json, unknown ones behind."""

    name: str
    scenarios: Mapping[str, StudyScenario]
    methods: Mapping[str, StudyMethod]
    runs: tuple[StudyRun, ...]
    blind: Blind | None = None
    holdings: Mapping[str, tuple[Holding, ...]] = field(default_factory=dict)
    tuning: tuple[Tuning, ...] = ()
    benchmarks: Mapping[tuple[str, str, int], Benchmarked] = field(default_factory=dict)


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
    plan = _read(folder / "study.json")
    scenarios = {name: StudyScenario.from_entry(name, entry) for name, entry in _entries(plan, "scenarios")}
    methods = {name: StudyMethod.from_entry(name, entry) for name, entry in _entries(plan, "methods")}
    runs = tuple(_runs(folder / "runs"))
    for run in runs:
        scenarios.setdefault(run.scenario, StudyScenario(run.scenario, run.scenario))
        methods.setdefault(run.method, StudyMethod(run.method, run.method, run.federated))
    blind = folder / "references" / "blind.json"
    return Study(
        name=text(plan.get("name")) or folder.resolve().name,
        scenarios=scenarios,
        methods=methods,
        runs=runs,
        blind=Blind.from_file(_read(blind)) if blind.is_file() else None,
        holdings={
            name: tuple(Holding.from_file(seed, _read(path)) for seed, path in _seed_files(folder / "scenarios" / name))
            for name in scenarios
        },
        tuning=tuple(Tuning.from_file(path.stem, _read(path)) for path in sorted((folder / "tuning").glob("*.json"))),
        benchmarks=dict(_benchmarks(folder / "benchmarks")),
    )


def _runs(folder: Path) -> Iterator[StudyRun]:
    for place in sorted(path for path in folder.glob("*/*") if path.is_dir()):
        scenario, method = place.parent.name, place.name
        for seed, path in _seed_files(place):
            content = _read(path)
            for key, expected in (("scenario", scenario), ("method", method), ("seed", seed)):
                if key in content and content[key] != expected:
                    raise UserError(f"{path}: {key} = {content[key]!r}, but its place says {expected!r}; move it")
            yield StudyRun.from_file(scenario, method, seed, content)


def _benchmarks(folder: Path) -> Iterator[tuple[tuple[str, str, int], Benchmarked]]:
    for place in sorted(folder.glob("*/*/seed-*")):
        seed = place.name.removeprefix("seed-")
        if seed.isdecimal() and (found := read_results(place)).models:
            yield (place.parent.parent.name, place.parent.name, int(seed)), found


def _seed_files(folder: Path) -> list[tuple[int, Path]]:
    """The files seed-S.json of a folder by seed; any other file is passed over, as one that is still being written."""
    found = [(match, path) for path in folder.glob("*.json") if (match := _SEED_FILE.fullmatch(path.name))]
    return sorted((int(match[1]), path) for match, path in found)


def _entries(plan: Mapping[str, object], key: str) -> list[tuple[str, Mapping[str, object]]]:
    table = plan.get(key)
    entries = table.items() if isinstance(table, Mapping) else ()
    return [(str(name), entry if isinstance(entry, Mapping) else {}) for name, entry in entries]


def _read(path: Path) -> Mapping[str, object]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the file's permissions") from error
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}); remove it and run the study again") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds no JSON object; remove it and run the study again")
    form = number(content.get("format"))
    if form is not None and form != FORMAT:
        raise UserError(f"{path}: format {form:g}, but this version reads {FORMAT}; use the fedcmp that wrote it")
    return content
