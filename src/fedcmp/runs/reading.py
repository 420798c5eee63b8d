"""From folders to runs: recipe.toml, metrics.jsonl and samples.json of each, read as they lie.

A run that is still going, or that was killed in the middle of a line, reads like any other: of two lines about the same
thing the later one counts. The recipe and the samples are checked against their checksums (checksums.py), records as
record_files.py says. Loads neither torch nor anything of the machinery that runs.
"""

import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from fedcmp.checksums import check_toml, unsealed
from fedcmp.errors import UserError
from fedcmp.references import is_federated, reference_of
from fedcmp.runs.best import Best
from fedcmp.runs.fields import table, text, whole
from fedcmp.runs.held_out import HeldOut
from fedcmp.runs.record_files import METRICS, checkpoint_folders, read_records, run_folders
from fedcmp.runs.records import (
    SPLITS,
    AnyRecord,
    ClientData,
    ClientRound,
    Evaluation,
    Finished,
    OpeningRound,
    PairsRead,
    RunRecord,
    Sample,
    ServerRound,
    SiteEvent,
)


@dataclass(frozen=True)
class Run:
    """One run's folder: what was asked (recipe) and what was measured, each record once."""

    folder: Path
    name: str
    method: str
    seed: int | None = None
    rounds: int | None = None
    num_clients: int | None = None
    recipe: Mapping[str, Any] = field(default_factory=dict)
    record: RunRecord | None = None  # a run of version 0.1 has none
    evaluations: tuple[Evaluation, ...] = ()
    client_rounds: tuple[ClientRound, ...] = ()
    server_rounds: tuple[ServerRound, ...] = ()
    site_events: tuple[SiteEvent, ...] = ()
    holdings: tuple[ClientData, ...] = ()
    pairs_read: tuple[PairsRead, ...] = ()
    samples: tuple[Sample, ...] = ()
    held_out: HeldOut | None = None
    finished: bool = False
    finished_seconds: float | None = None
    ended: str = ""
    opening_bytes: int = 0

    @property
    def federated(self) -> bool:
        """Whether clients met over a server, as the run's record says it; older runs are known by the method."""
        return is_federated(self.method) if self.record is None else self.record.federated

    @property
    def seconds(self) -> float | None:
        """Seconds of training, all workers together, of the rounds so far if unfinished; None where unknown."""
        if self.finished_seconds is not None:
            return self.finished_seconds
        known = [line.seconds for line in self.server_rounds if line.seconds is not None]
        return sum(known) if known else None

    @property
    def num_bytes(self) -> int | None:
        """Bytes sent in both directions, in an opening round too; None for a method that sends nothing."""
        known = [line.num_bytes for line in self.server_rounds if line.num_bytes is not None]
        total = sum(known) if known else sum(line.num_bytes for line in self.client_rounds)
        return total + self.opening_bytes if self.federated and total > 0 else None

    @property
    def data_format(self) -> str:
        """Format of the pairs; "world" where the recipe does not say."""
        return str(_section(self.recipe, "data").get("format") or "world")

    @property
    def num_pairs(self) -> int | None:
        """Image-caption pairs that the run holds, or has used so far; None where neither is noted."""
        held = sum(line.num_pairs for line in self.holdings)
        return held or sum(line.num_examples for line in self.client_rounds) or None

    @property
    def round_reached(self) -> int:
        """The last round of which anything was noted; 0 before the first."""
        learned = [line.round for line in self.evaluations if line.model in ("global", "client")]
        noted = [line.round for line in self.server_rounds] or [line.round for line in self.client_rounds]
        return max([*learned, *noted], default=0)

    def up_to(self, number: int) -> "Run":
        """Return the run as it was after a round: a checkpoint may be older than the last records."""
        return replace(
            self,
            evaluations=tuple(line for line in self.evaluations if line.round <= number),
            client_rounds=tuple(line for line in self.client_rounds if line.round <= number),
            server_rounds=tuple(line for line in self.server_rounds if line.round <= number),
            site_events=tuple(line for line in self.site_events if line.round <= number),
        )

    @property
    def round_measured(self) -> int:
        """The last round after which what the run offers was evaluated; 0 before the first."""
        return max(self.measures(self.split), default=0)

    def measures(self, split: str) -> dict[int, tuple[Evaluation, ...]]:
        """Evaluations of what the run offers, by round: one global model, or all clients' own models.

        Args:
            split: one of SPLITS.

        Returns:
            Round -> evaluations, rounds ascending. Where the run has clients' models only, a round counts when every
            client has reached it, so that a mean never hides who is missing.
        """
        lines = [line for line in self.evaluations if line.split == split]
        offered = "global" if any(line.model == "global" for line in lines) else "client"
        found: dict[int, list[Evaluation]] = {}
        for line in lines:
            if line.model == offered:
                found.setdefault(line.round, []).append(line)
        most = max((len(group) for group in found.values()), default=0)
        planned = (self.num_clients or 0) if reference_of(self.method) == "local" else 0
        needed = 1 if offered == "global" else max(most, planned)
        return {round_: tuple(found[round_]) for round_ in sorted(found) if len(found[round_]) >= needed}

    @cached_property
    def best(self) -> Best | None:
        """The round after which the loss on held-out pairs was lowest, None where none was finite."""
        best: Best | None = None
        for round_, lines in self.measures(self.split).items():
            best = Best.after(best, round_, lines)
        return best

    @cached_property
    def split(self) -> str:
        """Whose figures count: the first of SPLITS on which what the run offers was measured."""
        return next((split for split in SPLITS if self.measures(split)), SPLITS[0])

    def reference(self, model: str) -> Evaluation | None:
        """The evaluation of a model that does not learn ("blind", "initial"), None where it was not measured."""
        found = [line for line in self.evaluations if line.model == model and line.split in SPLITS]
        return min(reversed(found), key=lambda line: SPLITS.index(line.split), default=None)


def load_runs(folder: Path) -> list[Run]:
    """Read a run's folder, or all runs in a comparison's folder (up to two levels deep, for seeds of a method).

    Args:
        folder: a folder that holds metrics.jsonl, or whose sub-folders do.

    Returns:
        The runs, by folder name; at least one.

    Raises:
        UserError: no such folder, no run in it, or a file that is not what it should be.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name a run's folder or the folder that holds the runs")
    found = run_folders(folder)
    if not found:
        raise UserError(
            f"{folder}: no run in it (a run's folder holds {METRICS}); start one with `fedcmp train RECIPE`, "
            "or name the folder that holds the runs"
        )
    return [_read_run(path) for path in found]


def _read_run(folder: Path) -> Run:
    recipe, records = _read_recipe(folder / "recipe.toml"), read_records(folder / METRICS)
    run, federation = _section(recipe, "run"), _section(recipe, "federation")
    record = next((line for line in records if isinstance(line, RunRecord)), None)
    methods = run.get("methods")
    only = methods[0] if isinstance(methods, list) and len(methods) == 1 else None
    method = (record.method if record else "") or run.get("method") or only or folder.name
    return Run(
        folder=folder,
        name=text(str(run.get("name") or folder.name)),
        method=text(str(method)),
        seed=_first(whole(run.get("seed")), record.seed if record else None),
        rounds=_first(record.rounds if record else None, whole(federation.get("rounds"))),
        num_clients=_first(_num_clients(recipe), record.clients if record else None),
        recipe=recipe,
        record=record,
        samples=_read_samples(folder / "samples.json"),
        held_out=HeldOut.read(folder),
        **_by_kind(records),
    )


def _first(*values: int | None) -> int | None:
    return next((value for value in values if value is not None), None)


def _num_clients(recipe: Mapping[str, Any]) -> int | None:
    """Clients as the recipe says it: a list of organisations, or a number under the federation or its scenario."""
    named = _section(recipe, "data").get("clients")
    if isinstance(named, list) and named:
        return len(named)
    return whole(_section(recipe, "federation").get("clients")) or whole(_section(recipe, "scenario").get("clients"))


def _section(recipe: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    return table(recipe.get(name))


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error.reason}); restore the file or remove the run") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the file's permissions") from error


def _read_recipe(path: Path) -> Mapping[str, Any]:
    if not path.is_file() and not checkpoint_folders(path.parent):
        return {}  # the folder's name then stands for the method, and the page says less
    content = _read_text(path)
    if not content.strip():
        raise UserError(f"{path}: is empty; restore the recipe that the run wrote")
    try:
        check_toml(content)
        return tomllib.loads(content)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path}: not TOML: {error}; restore the recipe that the run wrote") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: damaged ({error}); restore the recipe that the run wrote") from error


def _by_kind(records: Iterable[AnyRecord]) -> dict[str, Any]:
    evaluations: dict[object, Evaluation] = {}
    clients: dict[tuple[int, int, int], ClientRound] = {}
    servers: dict[int, ServerRound] = {}
    held: dict[int, ClientData] = {}
    pairs: dict[str, PairsRead] = {}
    openings: dict[int, OpeningRound] = {}
    events: list[SiteEvent] = []
    finished: Finished | None = None
    for line in records:
        match line:
            case Evaluation():
                evaluations[line.model, line.split, line.round, line.client] = line
            case ClientRound():
                clients[line.round, line.client, line.part or 0] = line
            case ServerRound():
                servers[line.round] = line
            case SiteEvent():
                events.append(line)
            case OpeningRound():
                openings[line.round] = line
            case PairsRead():
                pairs[line.name] = line
            case ClientData():
                held[line.client] = line
            case Finished():
                finished = line
    return {
        "evaluations": tuple(evaluations.values()),
        "client_rounds": tuple(clients[key] for key in sorted(clients)),
        "server_rounds": tuple(servers[key] for key in sorted(servers)),
        "site_events": tuple(events),
        "holdings": tuple(held[key] for key in sorted(held)),
        "pairs_read": tuple(pairs.values()),
        "opening_bytes": sum(line.bytes_sent or 0 for line in openings.values()),
        "finished": finished is not None,
        "finished_seconds": finished.seconds if finished else None,
        "ended": finished.ended if finished else "",
    }


def _read_samples(path: Path) -> tuple[Sample, ...]:
    if not path.is_file():
        return ()
    content = _read_text(path)
    try:
        entries = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON ({error}); remove it, the report does without") from error
    if not isinstance(entries, list):
        raise UserError(f"{path}: holds no list of samples; remove it, the report does without")
    try:
        return tuple(Sample.from_line(unsealed(entry)) for entry in entries if isinstance(entry, dict))
    except ValueError as error:
        raise UserError(f"{path}: damaged ({error}); remove it, the report does without") from error
