"""A run's folder: recipe, metrics, checkpoints; written so that a kill at any moment loses no accepted reply.

    recipe.toml                            the resolved recipe, versions, the manifest's hash
    metrics.jsonl                          one line a round and client, one a round and evaluation (docs/guide.md)
    checkpoints/round-0007/projector.safetensors, server.safetensors, state.json     of the last two rounds
    checkpoints/best-0003/projector.safetensors, state.json                          of the best round before those
    waiting/                               replies of the round under way (federation/kept_replies.py)
    samples.json, samples/*.png            held-out images and what the model writes about them

A checkpoint is made under a hidden name and renamed. state.json records how long metrics.jsonl was then: whatever a
killed round had written after that is cut off on resuming. It also holds the hashes of the checkpoint's files and of
those records, and one of itself: a flipped bit is found when they are read (checksums.py).

A checkpoint whose time is over is renamed instead of removed where its round is the best so far (best.py), or was so
before the one that is now: a run that falls back by one round still has its best. Nothing resumes from there.
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from fedcmp.checksums import Damaged, is_sealed, sealed, sealed_toml, sha256, unsealed
from fedcmp.errors import UserError
from fedcmp.files import cannot_be_written, write_whole
from fedcmp.runs.best import Best
from fedcmp.runs.fields import Record
from fedcmp.runs.place import check_folder as check_folder  # named here for those who open the folder
from fedcmp.runs.record_files import CHECKPOINTS, METRICS, checkpoint_folders, json_lines, read_records, round_of
from fedcmp.runs.records import AnyRecord, Finished, RunRecord

Tensors = dict[str, Tensor]
_LOG = logging.getLogger(__name__)
_FILES = ("projector.safetensors", "server.safetensors")
_OF_FILES = ("files", "metrics_sha256")  # keys of state.json that are about files, not about the run


@dataclass(frozen=True)
class Checkpoint:
    """The end of a round.

    Attributes:
        round: 1 for the first; 0 before any.
        projectors: "global" or "client-0", "client-1", ... -> a projector's tensors.
        server: all that the aggregator (or a learner's optimiser) remembers.
        state: plain values.
    """

    round: int
    projectors: dict[str, Tensors]
    server: Tensors
    state: dict[str, Any]


class RunFolder:
    """One method's run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metrics = path / METRICS
        self.checkpoints = path / CHECKPOINTS
        self._hashed = hashlib.sha256()  # of the records so far: a long run's are not read again after every round
        self._hashed_bytes = 0

    def begin(self, recipe_text: str) -> None:
        """Begin a fresh run: write the recipe, and an empty metrics file."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_whole(self.path / "recipe.toml", sealed_toml(recipe_text).encode())
        self._cut(0)

    @property
    def begun(self) -> bool:
        """Return whether `begin` was done."""
        return self.metrics.exists()

    def log(self, records: Sequence[Record]) -> None:
        """Append records; on disk when this returns.

        Raises:
            UserError: they cannot be written; a resumed run cuts off what was.
        """
        lines = "".join(json.dumps(record.line(), allow_nan=False) + "\n" for record in records).encode()
        try:
            with self.metrics.open("ab") as file:
                file.write(lines)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise cannot_be_written(self.metrics, error) from error

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, whole or not at all, and drop the one before the last, unless it is the best."""
        final = self._checkpoint(checkpoint.round)
        unfinished = self.checkpoints / f".{final.name}.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        named = {f"{who}/{name}": t for who, tensors in checkpoint.projectors.items() for name, t in tensors.items()}
        if list(checkpoint.projectors) == ["global"]:  # the usual case: plain tensor names, as any tool expects
            named = checkpoint.projectors["global"]
        contents = {name: _as_file(tensors) for name, tensors in zip(_FILES, (named, checkpoint.server), strict=True)}
        for name, content in contents.items():
            write_whole(unfinished / name, content)
        state = checkpoint.state | {"round": checkpoint.round, "projectors": list(checkpoint.projectors)}
        state |= {"files": {name: sha256(content) for name, content in contents.items()}}
        self._write_state(unfinished, state)
        shutil.rmtree(final, ignore_errors=True)
        unfinished.rename(final)
        _sync(self.checkpoints)
        self._keep_best(Best.read(state))

    def _keep_best(self, best: Best | None) -> None:
        """Remove what is neither of the last two rounds nor of a best one; the next save makes up for a kill."""
        rounds = best.rounds if best else set()
        for older in checkpoint_folders(self.path)[:-2]:
            place = self._best(round_of(older))
            shutil.rmtree(place, ignore_errors=True)
            if round_of(older) in rounds:
                older.rename(place)
            else:
                shutil.rmtree(older)
        for place in checkpoint_folders(self.path, "best"):
            if round_of(place) not in rounds:
                shutil.rmtree(place)
            else:
                (place / _FILES[1]).unlink(missing_ok=True)  # nobody resumes from there

    def finish(self, record: Finished) -> None:
        """Append a run's last record; its last checkpoint then vouches for all records."""
        self.log([record])
        *_, last = checkpoint_folders(self.path)
        self._write_state(last, self._state(last))

    def resume(self) -> Checkpoint | None:
        """Return the last complete checkpoint, or None, and cut metrics.jsonl back to it, or to nothing.

        Raises:
            UserError: a checkpoint whose files cannot be read, or that knows of other records than there are.
        """
        complete = checkpoint_folders(self.path)
        if not complete:
            self._cut(0)
            self._keep_best(None)
            return None
        checkpoint = self.read(complete[-1])
        read_records(self.metrics)  # those that the checkpoint vouches for are what was written
        self._cut(checkpoint.state["metrics_bytes"])
        return checkpoint

    def last(self) -> Checkpoint:
        """Return the last complete checkpoint; nothing is changed.

        Raises:
            UserError: there is none, or the run came to its end and its last round's is not there.
        """
        complete = checkpoint_folders(self.path)
        if not complete:
            raise UserError(f"{self.path}: holds no complete checkpoint; has the run finished its first round?")
        checkpoint = self.read(complete[-1])
        rounds = self._rounds_of_finished()
        if rounds is not None and checkpoint.round < rounds:
            raise UserError(
                f"{self.path}: the run came to the end of its {rounds} rounds, but its last checkpoint is that of "
                f"round {checkpoint.round}; `fedcmp train RECIPE --resume` trains what is missing"
            )
        return checkpoint

    def at(self, which: str) -> Checkpoint:
        """Return the checkpoint of a round; nothing is changed.

        Args:
            which: "last", "best", or the number of a round whose checkpoint is kept.

        Raises:
            UserError: there is none.
        """
        last = self.last()
        if which == "last":
            return last
        folders = [*checkpoint_folders(self.path, "best"), *checkpoint_folders(self.path)]
        kept, best = {str(round_of(folder)): folder for folder in folders}, Best.read(last.state)
        number = str(best.round) if which == "best" and best else which
        if number in kept:
            return self.read(kept[number])
        there = f"kept are the rounds {', '.join(kept)}"
        if which != "best":
            raise UserError(f"round {which}: {self.path} has no checkpoint of it; give best, last or a number: {there}")
        if best is None:
            raise UserError(f"round best: no round of {self.path} was evaluated with a finite loss; {there}")
        raise UserError(f"round best: the checkpoint of round {best.round} is not in {self.path} any more; {there}")

    def read(self, folder: Path) -> Checkpoint:
        """Return one checkpoint; that of a best round has nothing of the server.

        Raises:
            UserError: names the file that is missing or damaged.
        """
        state = self._state(folder)
        found: list[Tensors] = []
        for name in _FILES if folder == self._checkpoint(state["round"]) else _FILES[:1]:
            try:
                content = (folder / name).read_bytes()
                if "files" in state and state["files"].get(name) != sha256(content):
                    raise Damaged("its content is not what was written: the checksum does not fit")
                found.append(load(content))
            except (OSError, ValueError, SafetensorError, KeyError, TypeError, RuntimeError) as error:
                raise _damaged(folder, f"{name}: {error}") from error
        tensors, server = found[0], found[1] if len(found) > 1 else {}
        if state["projectors"] == ["global"]:
            projectors = {"global": tensors}
        else:
            projectors = {
                who: {name.removeprefix(f"{who}/"): t for name, t in tensors.items() if name.startswith(f"{who}/")}
                for who in state["projectors"]
            }
        plain = {key: value for key, value in state.items() if key not in _OF_FILES}
        return Checkpoint(state["round"], projectors, server, plain)

    def lines(self) -> list[dict[str, Any]]:
        """Return all complete records of metrics.jsonl, as plain objects.

        Raises:
            UserError: a line that is complete is no record.
        """
        return json_lines(self.metrics) if self.begun else []

    @property
    def finished(self) -> bool:
        """Return whether the run came to its end, and its last round's checkpoint is there.

        Raises:
            UserError: the records are damaged, or that checkpoint is.
        """
        rounds = self._rounds_of_finished()
        if not rounds:  # not at its end, or its records do not say how many rounds it had
            return rounds is not None
        complete = checkpoint_folders(self.path)
        return bool(complete) and self.read(complete[-1]).round >= rounds

    def _rounds_of_finished(self) -> int | None:
        """How many rounds a run that came to its end had (0 where its records do not say); None for any other."""
        records = read_records(self.metrics) if self.begun else []
        if not any(isinstance(record, Finished) for record in records):
            return None
        return _planned(records) or 0

    @property
    def planned_rounds(self) -> int | None:
        """How many rounds (merges, of an asynchronous run) the run has; None where its records do not say."""
        return _planned(read_records(self.metrics)) if self.begun else None

    def _checkpoint(self, number: int) -> Path:
        return self.checkpoints / f"round-{number:04d}"

    def _best(self, number: int) -> Path:
        return self.checkpoints / f"best-{number:04d}"

    def _state(self, folder: Path) -> dict[str, Any]:
        """What state.json holds, checked."""
        try:
            content = json.loads((folder / "state.json").read_text(encoding="utf-8"))
            state: dict[str, Any] = unsealed(content)
            if not _is_whole(state):
                raise Damaged("its keys are not those that were written")
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise _damaged(folder, f"state.json: {error}") from error
        if folder not in (self._checkpoint(state["round"]), self._best(state["round"])):
            raise _damaged(folder, f"state.json: it is that of round {state['round']}")
        if not is_sealed(content):
            _say_unchecked(folder)
        return state

    def _write_state(self, folder: Path, state: dict[str, Any]) -> None:
        with self.metrics.open("rb") as file:
            file.seek(self._hashed_bytes)
            added = file.read()
        self._hashed.update(added)
        self._hashed_bytes += len(added)
        state = state | {"metrics_bytes": self._hashed_bytes, "metrics_sha256": self._hashed.hexdigest()}
        write_whole(folder / "state.json", json.dumps(sealed(state), indent=1).encode())

    def _cut(self, size: int) -> None:
        """Keep so many bytes of the records, of none where there is no file yet."""
        with self.metrics.open("r+b" if size else "wb") as file:
            file.truncate(size)
        self._hashed, self._hashed_bytes = hashlib.sha256(), 0


def _planned(records: Sequence[AnyRecord]) -> int | None:
    return next((record.rounds for record in records if isinstance(record, RunRecord)), None)


def _is_whole(state: dict[str, Any]) -> bool:
    """Return whether what others rely on in a state is of the types that are written; older ones lack some of it."""
    files, kept = state.get("files", {}), state.get("kept", {})
    return (
        isinstance(state["round"], int)
        and isinstance(state["projectors"], list)
        and all(isinstance(name, str) for name in state["projectors"])
        and isinstance(state["metrics_bytes"], int)
        and state["metrics_bytes"] >= 0
        and isinstance(files, dict)
        and isinstance(kept, dict)
        and all(client.isdecimal() and isinstance(number, int) for client, number in kept.items())
    )


@lru_cache
def _say_unchecked(folder: Path) -> None:
    """Once for each checkpoint: a run's is read several times."""
    _LOG.warning("%s: written by fedcmp 0.2.0 or before, without checksums: damage is not noticed", folder)


def _damaged(folder: Path, problem: str) -> UserError:
    last = not folder.name.startswith("best")
    mend = "remove this folder to resume from the one before" if last else "nothing else needs it"
    return UserError(f"{folder}: damaged checkpoint ({problem}); {mend}")


def _as_file(tensors: Tensors) -> bytes:
    content: bytes = save({name: tensor.contiguous() for name, tensor in tensors.items()})
    return content


def _sync(folder: Path) -> None:
    if os.name == "nt":  # folders cannot be opened there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
