"""A study as one file that can be published, and back: results/NAME.jsonl, one line per file of the study's folder.

    {"kind": "study", ..}        the plan: scenarios, methods, seeds
    {"kind": "reference", ..}    the LLM without images
    {"kind": "scenario", ..}     who holds what, per scenario and seed
    {"kind": "tuning", ..}       a method's trials and the settings chosen
    {"kind": "run", ..}          per scenario, method and seed: settings, figures, versions, hash of what determines it
    {"kind": "benchmark", ..}    one of the paper's benchmarks, asked of a run

Lines are in this order and sorted, so that a new run shows as one new line. Unpacked, a study resumes from what was
published: its runs carry their hashes and are not run again. The tables of the study's report are stored next to it.
"""

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fedcmp.checksums import unsealed
from fedcmp.errors import UserError
from fedcmp.files import write_whole
from fedcmp.runs.fields import Record, finite, table, text, whole
from fedcmp.runs.record_files import json_lines
from fedcmp.runs.study_records import Blind, ScenarioFacts, StudyPlan, StudyRun, Tuning
from fedcmp.study.files import StudyFiles, write_json

Line = dict[str, Any]


def pack_study(folder: Path, packed: Path) -> Path:
    """Write the records of a study's folder to one file, and its report's tables next to it.

    Args:
        folder: the study's, its report written.
        packed: the file, NAME.jsonl; the tables become NAME.md.

    Returns:
        The file of the tables.

    Raises:
        UserError: no study or no report in the folder, a file that cannot be read, or `packed` is no .jsonl.
    """
    if packed.suffix != ".jsonl":
        raise UserError(f"{packed}: name a file that ends in .jsonl; the tables are written next to it, as .md")
    tables = folder / "report" / "tables.md"
    for needed in (folder / "study.json", tables):
        if not needed.is_file():
            raise UserError(f"{needed}: is not there; run the study first")
    lines = [json.dumps(line, allow_nan=False, ensure_ascii=False, separators=(",", ":")) for line in _lines(folder)]
    packed.parent.mkdir(parents=True, exist_ok=True)
    write_whole(packed, "".join(f"{line}\n" for line in lines).encode())
    written = packed.with_suffix(".md")
    write_whole(written, tables.read_bytes())
    return written


@contextmanager
def unpacked(packed: Path) -> Iterator[Path]:
    """Yield a folder that holds a packed study, gone afterwards; errors as of `unpack_study`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "study"
        unpack_study(packed, folder)
        yield folder


def unpack_study(packed: Path, folder: Path) -> int:
    """Write the files of a packed study to a folder; a file that is there already is left as it is.

    Args:
        packed: what `pack_study` wrote.
        folder: the study's, new or begun.

    Returns:
        How many files were written.

    Raises:
        UserError: the file cannot be read, or a line is not one of a packed study.
    """
    written = 0
    for number, line in enumerate(json_lines(packed), start=1):
        path = _place(table(line), StudyFiles(folder))
        if path is None:
            raise UserError(f"{packed}: line {number} is none of a packed study; restore the file")
        if not path.exists():
            content = line["content"] if line["kind"] == "benchmark" else line
            write_json(path, {key: value for key, value in content.items() if key != "kind"})
            written += 1
    return written


def _lines(folder: Path) -> Iterator[Line]:
    files = StudyFiles(folder)
    yield {"kind": "study"} | _kept(StudyPlan, folder / "study.json")
    if files.blind.is_file():
        yield {"kind": "reference"} | _kept(Blind, files.blind)
    for path in _by_seed(folder / "scenarios", "*"):
        place = {"scenario": path.parent.name, "seed": _seed(path.stem)}
        yield {"kind": "scenario"} | place | _kept(ScenarioFacts, path)
    for path in sorted((folder / "tuning").glob("*.json")):
        yield {"kind": "tuning"} | _kept(Tuning, path)
    for path in _by_seed(folder / "runs", "*/*"):
        yield {"kind": "run"} | _kept(StudyRun, path)
    for path in sorted((folder / "benchmarks").glob("*/*/seed-*/**/*.json")):
        scenario, method, seed, *inner = path.relative_to(folder / "benchmarks").parts
        place = {"scenario": scenario, "method": method, "seed": _seed(seed), "file": "/".join(inner)}
        yield {"kind": "benchmark"} | place | {"content": finite(_read(path))}


def _kept(kind: type[Record], path: Path) -> Line:
    """The keys of a file that its record knows, in the file's order: the report follows that of study.json."""
    return kind.from_line(_read(path)).line()


def _read(path: Path) -> Mapping[str, Any]:
    try:
        content = unsealed(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read ({error}); remove it and run the study again") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds no JSON object; remove it and run the study again")
    return content


def _place(line: Mapping[str, object], files: StudyFiles) -> Path | None:
    """Return the file that a line is kept in, None where it names none, or one outside of the study's folder."""
    scenario, method, seed = text(line.get("scenario")), text(line.get("method")), whole(line.get("seed"))
    match text(line.get("kind")):
        case "study":
            return files.folder / "study.json"
        case "reference":
            return files.blind
        case "scenario" if _are_names(scenario) and seed is not None:
            return files.facts(scenario, seed)
        case "tuning" if _are_names(method):
            return files.tuning(method)
        case "run" if _are_names(scenario, method) and seed is not None:
            return files.run(scenario, method, seed)
        case "benchmark" if _are_names(scenario, method) and seed is not None and isinstance(line.get("content"), dict):
            inner = text(line.get("file")).split("/")
            return files.benchmarks(scenario, method, seed).joinpath(*inner) if _are_names(*inner) else None
    return None


def _are_names(*names: str) -> bool:
    return all(name and not name.startswith(".") and not set("/\\\0:") & set(name) for name in names)


def _by_seed(folder: Path, inner: str) -> list[Path]:
    found = [path for path in folder.glob(f"{inner}/seed-*.json") if path.stem.removeprefix("seed-").isdecimal()]
    return sorted(found, key=lambda path: (path.parent.relative_to(folder).parts, _seed(path.stem)))


def _seed(name: str) -> int:
    return int(name.removeprefix("seed-"))
