"""Short runs of the real command on the embedded world, and what a run leaves behind that must be equal to the bit."""

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from fedcmp.runs.record_files import checkpoint_folders

NAME = "kills"
RECIPE = """
[run]
name = "{name}"
methods = {methods}
workers = {workers}
seed = 5
save_seconds = 0.2

[data]
num_pairs = {pairs}

[scenario]
kind = "iid"
clients = {clients}

[federation]
rounds = 3

[training]
batch_size = 2

[evaluation]
captions = 24
questions_per_kind = 2
samples = 2
sample_tokens = 6
"""
_TIMES = ("seconds", "started", "ended", "arrived", "opened", "waited")
_OF_FILES = ("metrics_bytes", "metrics_sha256", "checksum")  # of state.json: they depend on times


def write_recipe(folder: Path, *, methods: list[str], workers: int, clients: int = 5, pairs: int = 600) -> Path:
    """Write the recipe of a run that trains for some seconds; return its file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "recipe.toml"
    path.write_text(
        RECIPE.format(name=NAME, methods=json.dumps(methods), workers=workers, clients=clients, pairs=pairs)
    )
    return path


def place(folder: Path) -> Path:
    """Return the run's folder."""
    return folder / "runs" / NAME


def resumable(folder: Path) -> bool:
    """Return whether there is something that --resume would continue."""
    run = place(folder)
    return run.exists() or run.with_name(f".{NAME}.preparing").exists()


def start(folder: Path, cache: Path) -> "subprocess.Popen[str]":
    """Start the command `fedcmp train recipe.toml`, with --resume where there is something to resume."""
    arguments = ["train", "recipe.toml", *(["--resume"] if resumable(folder) else [])]
    return subprocess.Popen(
        [sys.executable, "-m", "fedcmp", *arguments],
        cwd=folder,
        env={**os.environ, "FEDCMP_CACHE": str(cache), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(folder: Path, cache: Path) -> float:
    """Run the command to its end; return its seconds.

    Raises:
        RuntimeError: it failed, with what it said.
    """
    begun = time.monotonic()
    process = start(folder, cache)
    _, said = process.communicate()
    if process.returncode:
        raise RuntimeError(f"exit code {process.returncode}: {said}")
    return time.monotonic() - begun


def outcome(run: Path) -> dict[str, str]:
    """Return a hash of everything that a run leaves behind and that must not depend on kills; times are left out."""
    found: dict[str, str] = {}
    for metrics in sorted(run.rglob("metrics.jsonl")):
        method, name = metrics.parent, metrics.parent.relative_to(run).as_posix()
        lines = [json.loads(line) for line in metrics.read_text().splitlines()]
        found[f"{name}: records"] = _hash([{k: v for k, v in line.items() if k not in _TIMES} for line in lines])
        *_, last = checkpoint_folders(method)
        state = json.loads((last / "state.json").read_text())
        found[f"{name}: state"] = _hash({key: value for key, value in state.items() if key not in _OF_FILES})
        kept = ("checkpoints/best-*/*.safetensors", f"clients/*/{last.name}.safetensors")
        for path in [*last.glob("*.safetensors"), *(path for place in kept for path in method.glob(place))]:
            found[f"{name}: {path.relative_to(method)}"] = hashlib.sha256(path.read_bytes()).hexdigest()
        for path in method.glob("samples.json"):
            found[f"{name}: samples"] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
