"""The files of a run's folder that records are in or that vouch for them: metrics.jsonl, and the checkpoints by name.

A run's folder is one that holds metrics.jsonl. A torn last line, of a run that is still going or was killed, is left
out. Records that the last checkpoint vouches for are checked against its checksum (checksums.py).
"""

import json
import re
from pathlib import Path
from typing import Any, Literal

from fedcmp.checksums import sha256, unsealed
from fedcmp.errors import UserError
from fedcmp.runs.records import AnyRecord, read_line

METRICS = "metrics.jsonl"
CHECKPOINTS = "checkpoints"
_CHECKPOINT = re.compile(r"(round|best)-(\d+)")


def run_folders(folder: Path) -> list[Path]:
    """Return the folders that hold a run's records: the folder itself, or those in it, up to two levels deep."""
    if (folder / METRICS).is_file():
        return [folder]
    return sorted(path.parent for path in {*folder.glob(f"*/{METRICS}"), *folder.glob(f"*/*/{METRICS}")})


def checkpoint_folders(run: Path, kind: Literal["round", "best"] = "round") -> list[Path]:
    """Return the complete checkpoints of a run's folder, by their rounds' numbers: the last ones, or earlier bests."""
    found = [(_CHECKPOINT.fullmatch(path.name), path) for path in (run / CHECKPOINTS).glob(f"{kind}-*")]
    return [path for _, path in sorted((int(match[2]), path) for match, path in found if match)]


def round_of(checkpoint: Path) -> int:
    """Return the round of a checkpoint's folder."""
    return int(checkpoint.name.rpartition("-")[2])


def json_lines(path: Path) -> list[Any]:
    """Return the complete lines of a file of JSON lines, parsed; a last line without its newline is torn, and left out.

    Raises:
        UserError: the file cannot be read, or a complete line is not JSON.
    """
    return _parsed(path, _content(path))


def read_records(path: Path) -> list[AnyRecord]:
    """Return the records of a metrics.jsonl in the order of the file; what is no record is passed over.

    Raises:
        UserError: as `json_lines`; or the run's last checkpoint knows of other records than there are.
    """
    vouched = _vouched(path.parent)  # before the records, which a run under way may add to
    content = _content(path)
    lines = _parsed(path, content)
    if vouched is not None:
        number, size, digest = vouched
        if len(content) < size:
            raise UserError(
                f"{path}: holds less than round {number} had written; restore the file, or start the run again with "
                "--overwrite"
            )
        if digest and sha256(content[:size]) != digest:
            raise UserError(
                f"{path}: damaged (the records up to round {number} are not those that were written); restore the "
                "file, or start the run again with --overwrite"
            )
    return [record for line in lines if (record := read_line(line)) is not None]


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the file's permissions") from error


def _parsed(path: Path, content: bytes) -> list[Any]:
    parsed = []
    for number, raw in enumerate(content.split(b"\n")[:-1], start=1):
        try:
            parsed += [json.loads(raw)] if raw.strip() else []
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"{path}: line {number}: damaged ({error}); restore the file, or start again with --overwrite"
            ) from error
    return parsed


def _vouched(run: Path) -> tuple[int, int, str] | None:
    """Return the last checkpoint's round, how many bytes of records it knows of, and their hash.

    None where there is none; one that is damaged is named by who reads checkpoints.
    """
    for folder in checkpoint_folders(run)[-1:]:
        try:
            state = unsealed(json.loads((folder / "state.json").read_text(encoding="utf-8")))
            return int(state["round"]), int(state["metrics_bytes"]), str(state.get("metrics_sha256", ""))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            return None
    return None
