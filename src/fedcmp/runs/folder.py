"""A run's folder: recipe, metrics, checkpoints; written so that a kill at any moment loses at most one round.

    recipe.toml                            the resolved recipe, versions, the manifest's hash
    metrics.jsonl                          one line a round and client, one a round and evaluation (docs/guide.md)
    checkpoints/round-0007/projector.safetensors, server.safetensors, state.json
    samples.json, samples/*.png            held-out pictures and what the model writes about them

A checkpoint is made under a hidden name and renamed. state.json records how long metrics.jsonl was then: whatever a
killed round had written after that is cut off on resuming.
"""

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load, save
from torch import Tensor

from fedcmp.errors import UserError
from fedcmp.files import write_whole
from fedcmp.runs.place import check_folder as check_folder  # named here for those who open the folder
from fedcmp.runs.records import Record

Tensors = dict[str, Tensor]


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
        self.metrics = path / "metrics.jsonl"
        self.checkpoints = path / "checkpoints"

    def begin(self, recipe_text: str) -> None:
        """A fresh run: the recipe, and an empty metrics file."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_whole(self.path / "recipe.toml", recipe_text.encode())
        write_whole(self.metrics, b"")

    @property
    def begun(self) -> bool:
        """Whether `begin` was done."""
        return self.metrics.exists()

    def log(self, records: Sequence[Record]) -> None:
        """Append records; on disk when this returns."""
        with self.metrics.open("ab") as file:
            file.write("".join(json.dumps(record.line(), allow_nan=False) + "\n" for record in records).encode())
            file.flush()
            os.fsync(file.fileno())

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, whole or not at all, and drop the one before the last."""
        final = self.checkpoints / f"round-{checkpoint.round:04d}"
        unfinished = self.checkpoints / f".{final.name}.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        named = {f"{who}/{name}": t for who, tensors in checkpoint.projectors.items() for name, t in tensors.items()}
        if list(checkpoint.projectors) == ["global"]:  # the usual case: plain tensor names, as any tool expects
            named = checkpoint.projectors["global"]
        _write_tensors(unfinished / "projector.safetensors", named)
        _write_tensors(unfinished / "server.safetensors", checkpoint.server)
        state = checkpoint.state | {
            "round": checkpoint.round,
            "projectors": list(checkpoint.projectors),
            "metrics_bytes": self.metrics.stat().st_size,
        }
        write_whole(unfinished / "state.json", json.dumps(state, indent=1).encode())
        shutil.rmtree(final, ignore_errors=True)
        unfinished.rename(final)
        _sync(self.checkpoints)
        for older in self._complete()[:-2]:
            shutil.rmtree(older)

    def resume(self) -> Checkpoint | None:
        """The last complete checkpoint, metrics.jsonl cut back to it; None, and nothing in it, where there is none.

        Raises:
            UserError: a checkpoint whose files cannot be read, or that knows of more records than there are.
        """
        complete = self._complete()
        if not complete:
            write_whole(self.metrics, b"")
            return None
        checkpoint = self.read(complete[-1])
        known = int(checkpoint.state["metrics_bytes"])
        if self.metrics.stat().st_size < known:
            raise UserError(
                f"{self.metrics}: holds less than round {checkpoint.round} had written; restore the file, or start the "
                "run again with --overwrite"
            )
        with self.metrics.open("r+b") as file:
            file.truncate(known)
        return checkpoint

    def last(self) -> Checkpoint:
        """The last complete checkpoint, nothing changed.

        Raises:
            UserError: there is none.
        """
        complete = self._complete()
        if not complete:
            raise UserError(f"{self.path}: holds no complete checkpoint; has the run finished its first round?")
        return self.read(complete[-1])

    def read(self, folder: Path) -> Checkpoint:
        """One checkpoint.

        Raises:
            UserError: names the file that is missing or damaged.
        """
        try:
            state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
            tensors = load((folder / "projector.safetensors").read_bytes())
            server = load((folder / "server.safetensors").read_bytes())
        except Exception as error:
            raise UserError(
                f"{folder}: damaged checkpoint ({error}); remove this folder to resume from the one before"
            ) from error
        if state["projectors"] == ["global"]:
            projectors = {"global": tensors}
        else:
            projectors = {
                who: {name.removeprefix(f"{who}/"): t for name, t in tensors.items() if name.startswith(f"{who}/")}
                for who in state["projectors"]
            }
        return Checkpoint(int(state["round"]), projectors, server, state)

    def lines(self) -> list[dict[str, Any]]:
        """All complete records of metrics.jsonl.

        Raises:
            UserError: a line that is complete is no record.
        """
        if not self.metrics.exists():
            return []
        complete = self.metrics.read_bytes().split(b"\n")[:-1]  # a killed run may leave a part of a line
        out: list[dict[str, Any]] = []
        for number, line in enumerate(complete, start=1):
            try:
                out.append(json.loads(line))
            except ValueError as error:
                raise UserError(
                    f"{self.metrics}: line {number}: damaged ({error}); restore the file, or start the run again with "
                    "--overwrite"
                ) from None
        return out

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return any(line["kind"] == "finished" for line in self.lines())

    def _complete(self) -> list[Path]:
        return sorted(self.checkpoints.glob("round-*")) if self.checkpoints.exists() else []


def _write_tensors(path: Path, tensors: Tensors) -> None:
    write_whole(path, save({name: tensor.contiguous() for name, tensor in tensors.items()}))


def _sync(folder: Path) -> None:
    if os.name == "nt":  # folders cannot be opened there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
