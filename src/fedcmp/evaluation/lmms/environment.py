"""lmms-eval's own environment: the recipe that builds it, and what a given python has in it."""

import json
import os
import subprocess
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from fedcmp.errors import UserError

VARIABLE = "FEDCMP_LMMS_PYTHON"
_HINT = "build the environment that `fedcmp evaluate --print-environment` prints"
_PROBE = """
import importlib.metadata as metadata, importlib.util, json
found = {"versions": {}}
for name in ("lmms-eval", "torch", "torchvision", "transformers", "datasets", "decord", "eva-decord"):
    try:
        found["versions"][name] = metadata.version(name)
    except metadata.PackageNotFoundError:
        pass
spec = importlib.util.find_spec("lmms_eval")
found["origin"] = spec.origin if spec else None
try:
    import torch, torchvision
    found["cuda"] = torch.cuda.is_available()
except Exception as error:
    found["broken"] = str(error).strip().splitlines()[-1]
print("fedcmp:" + json.dumps(found))
"""


@dataclass(frozen=True)
class Environment:
    """An environment that can run lmms-eval.

    Attributes:
        python: its interpreter.
        tasks: lmms_eval/tasks in it.
        versions: of what computes the answers.
        cuda: whether its torch sees a GPU.
    """

    python: Path
    tasks: Path
    versions: dict[str, str]
    cuda: bool


def environment_recipe() -> str:
    """The commands that build the environment, for a shell."""
    pins = resources.files("fedcmp.evaluation.lmms").joinpath("requirements.txt").read_text(encoding="utf-8")
    return (
        "python3 -m venv lmms-env\n"
        f"cat > lmms-requirements.txt <<'END'\n{pins}END\n"
        "lmms-env/bin/pip install -r lmms-requirements.txt\n"
        f"export {VARIABLE}=$PWD/lmms-env/bin/python\n"
    )


def child_variables() -> dict[str, str]:
    """This process's variables without what would lead lmms-eval to our packages, to a hub or to a judge."""
    ours = (
        "PYTHONPATH",
        "PYTHONHOME",
        "VIRTUAL_ENV",
        "HF_TOKEN",
        "OPENAI_API_KEY",
        "OPENAI_API_URL",
        "API_TYPE",
        "MODEL_VERSION",
        "LMMS_EVAL_PLUGINS",
    )
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    offline = dict.fromkeys(("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"), "1")
    return kept | offline | {"TOKENIZERS_PARALLELISM": "false", "WANDB_MODE": "disabled", "PYTHONNOUSERSITE": "1"}


def probe(python: Path | None, *, place: str = "--lmms-python") -> Environment:
    """What an interpreter can run.

    Args:
        python: of lmms-eval's environment; None: $FEDCMP_LMMS_PYTHON.
        place: where it was given, for messages.

    Raises:
        UserError: none was given, it cannot be started, or its environment lacks something.
    """
    if python is None:
        given = os.environ.get(VARIABLE, "")
        if not given:
            raise UserError(f"{place}: which python has lmms-eval? Give it, or set {VARIABLE}; {_HINT}")
        python = Path(given)
    python = python.expanduser().absolute()  # not resolved: an environment's python is a link
    try:
        done = subprocess.run(
            [str(python), "-c", _PROBE], capture_output=True, text=True, env=child_variables(), check=False
        )
    except OSError as error:
        raise UserError(f"{place} {python}: cannot be started ({error.strerror}); {_HINT}") from error
    lines = [line for line in done.stdout.splitlines() if line.startswith("fedcmp:")]
    if not lines:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1][-200:]
        raise UserError(f"{place} {python}: is no python of a working environment ({last}); {_HINT}")
    found = json.loads(lines[-1].removeprefix("fedcmp:"))
    versions: dict[str, str] = found["versions"]
    if found["origin"] is None:
        raise UserError(f"{place} {python}: has no lmms-eval; {_HINT}")
    if "broken" in found:
        raise UserError(f"{place} {python}: torch and torchvision do not load ({found['broken']}); {_HINT}")
    if not {"decord", "eva-decord"} & versions.keys():
        raise UserError(f"{place} {python}: has no decord, which lmms-eval's llava_hf imports; {_HINT}")
    return Environment(python, Path(found["origin"]).parent / "tasks", versions, bool(found["cuda"]))
