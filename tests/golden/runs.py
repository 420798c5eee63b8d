"""Golden runs: short runs of every method through the real command, whose results are kept in this folder.

One JSON file per run: the sha256 of the final projector and the records of metrics.jsonl (times excepted), and on
which machine it was written; those of further machines are in folders of their own. On a known machine the bits must be
the same; on another one, losses to 1e-4.

    python -m tests.golden.renew        (make golden)  write this machine's results
"""

import hashlib
import json
import platform
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import torch

from fedcmp.config.methods import available_methods
from tests.simulation.runner import command, environment, fedcmp, last_projector, metrics

FOLDER = Path(__file__).parent
RECIPE = """
[run]
name = "golden"
methods = {methods}
workers = 2
seed = 5
{run}
[data]
num_pairs = 600

[scenario]
kind = "image"
clients = 4

[federation]
rounds = 3
{federation}
[training]
learning_rate = 0.003
batch_size = 16

[evaluation]
captions = 64
questions_per_kind = 4
samples = 2
sample_tokens = 6
{methods_of_their_own}
"""
INT8 = 'payload = "int8"\nbroadcast_payload = "bfloat16"\nerror_feedback = true\n'
HALF = "participation = 0.5\n"
NO_OPENING = """[method.without-opening]
aggregator = "{rule}"
step = "canonical"
options = {{ opening = false }}
"""
SHARED_BASIS = "shared-basis"
# two rules as they were in version 0.1, whose results are published: the golden files are of that code
FIRST = {
    "first-shared-basis": """[method.first-shared-basis]
aggregator = "shared-basis"
step = "canonical"
options = { normalise = false }
step_options = { stretch = false }
""",
    "first-fisher": """[method.first-fisher]
aggregator = "fisher"
options = { parameter_normalise = false }
""",
}

FREE = """[method.canonical-knots]
aggregator = "knots-ties"
step = "canonical"
[method.muon-shared]
aggregator = "shared-basis"
step = "muon"
"""
# name of the group -> (methods, [run] lines, [federation] lines, further tables)
GROUPS: dict[str, tuple[list[str], str, str, str]] = {
    "all": ([*available_methods(), *FIRST], "", "", "".join(FIRST.values())),
    "int8": ([SHARED_BASIS, "fedavg", "moon", "scaffold"], "", INT8, ""),
    "half": ([SHARED_BASIS, "moon", "scaffold"], "", HALF, ""),
    "half-int8": (["moon"], "", HALF + INT8, ""),
    "cohort": ([SHARED_BASIS, "moon"], "cohort = 2\n", "", ""),
    "opening": (["without-opening"], "", "", NO_OPENING.format(rule=SHARED_BASIS)),
    "steps": (
        ["canonical-knots", "muon-shared", "centralized-with-canonical", "local-with-soap"],
        "",
        "",
        FREE,
    ),
    "resumed": (["moon", "scaffold", "local", SHARED_BASIS], "", INT8, ""),
}


def machine() -> str:
    """What the last bits of a result may depend on."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        fields = dict(re.findall(r"^(cpu family|model|stepping)\s*: (.+)$", info.read_text(), re.MULTILINE))
        cpu = " ".join(f"{key} {value}" for key, value in sorted(fields.items()))
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{cpu}; {capability}; torch {torch.__version__.partition('+')[0]}"


def run_group(name: str, folder: Path, cache: Path, only: list[str] | None = None) -> dict[str, dict[str, Any]]:
    """Run a group's methods side by side; of each the final projector's hash and its records, by "group.method"."""
    methods, run, federation, own = GROUPS[name]
    methods = only or methods
    folder.mkdir(parents=True, exist_ok=True)
    recipe = folder / "golden.toml"
    text = RECIPE.format(methods=json.dumps(methods), run=run, federation=federation, methods_of_their_own=own)
    recipe.write_text(text)
    if name == "resumed":
        _kill_in_the_middle(methods, recipe, folder, cache)
        fedcmp(folder, cache, "train", recipe, "--resume")
    else:
        fedcmp(folder, cache, "train", recipe)
    place = folder / "runs" / "golden"
    return {f"{name}.{method}": _result(place if len(methods) == 1 else place / method) for method in methods}


def _result(run: Path) -> dict[str, Any]:
    return {"projector": hashlib.sha256(last_projector(run)).hexdigest(), "metrics": metrics(run)}


def _kill_in_the_middle(methods: list[str], recipe: Path, folder: Path, cache: Path) -> None:
    """SIGKILL once every method has saved a round, and before the last has saved all."""
    place = folder / "runs" / "golden"
    process = subprocess.Popen(
        command("train", recipe),
        cwd=folder,
        env=environment(folder, cache),
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    while not all((place / method / "checkpoints" / "round-0001").exists() for method in methods):
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not all((place / method / "checkpoints" / "round-0003").exists() for method in methods)


def golden(name: str) -> Path:
    """The file of one run on this machine; where there is none, the first machine's."""
    own = own_folder() / f"{name}.json"
    return own if own.exists() else FOLDER / f"{name}.json"


def own_folder() -> Path:
    """Where this machine's results are, unless it is the one that wrote the first ones."""
    return FOLDER / re.sub(r"[^a-z0-9.]+", "-", machine().lower())
