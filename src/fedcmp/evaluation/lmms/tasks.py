"""Our task files: lmms-eval's own, included, with a local dataset, the form of the prompts and what is decided here.

They are YAML whose values are JSON, so that no YAML library is needed.
"""

import hashlib
import json
from importlib import resources
from pathlib import Path
from typing import Any

from fedcmp.errors import UserError
from fedcmp.evaluation.lmms.benchmarks import Benchmark, Prompts
from fedcmp.evaluation.lmms.datasets import LocalData
from fedcmp.evaluation.lmms.environment import Environment
from fedcmp.files import write_whole

_CHILD = "fedcmp.evaluation.lmms.child"
_CODE, _LAUNCHER = "fedcmp_task", "launch"


def task_source(benchmark: Benchmark, environment: Environment) -> Path:
    """lmms-eval's task file.

    Raises:
        UserError: this version of lmms-eval has none there.
    """
    path = environment.tasks / benchmark.task
    if not path.is_file():
        version = environment.versions.get("lmms-eval", "of this environment")
        raise UserError(f"lmms-eval {version}: has no task file {benchmark.task} for {benchmark.title}; use 0.7.3")
    return path


def task_keys(benchmark: Benchmark, prompts: Prompts | None) -> dict[str, Any]:
    """What our task file says otherwise than lmms-eval's, its dataset apart.

    Raises:
        UserError: the benchmark's task takes no prompts of another form.
    """
    keys = dict(benchmark.own)
    if prompts is None:
        return keys
    if not benchmark.prompted:
        raise UserError(f"--prompts: lmms-eval's task of {benchmark.title} takes no other form; leave it out by --only")
    keys["lmms_eval_specific_kwargs"] = {"default": {"pre_prompt": prompts.before, "post_prompt": prompts.after}}
    if prompts.new_tokens is not None:
        keys["generation_kwargs"] = {
            "max_new_tokens": prompts.new_tokens,
            "temperature": 0,
            "num_beams": 1,
            "do_sample": False,
        }
    if prompts.options_inside and benchmark.name == "mmbench":
        keys["doc_to_text"] = f"!function {_CODE}.question_alone"
    return keys


def task_hash(benchmark: Benchmark, environment: Environment, prompts: Prompts | None) -> str:
    """sha256 of our keys and of lmms-eval's files beside its task: what is asked and how it is scored."""
    found = hashlib.sha256(json.dumps(task_keys(benchmark, prompts), sort_keys=True).encode() + _child(_CODE))
    for path in sorted(task_source(benchmark, environment).parent.iterdir()):
        if path.is_file() and path.suffix != ".pyc":
            found.update(path.name.encode() + path.read_bytes())
    return found.hexdigest()


def write_task(
    folder: Path, benchmark: Benchmark, environment: Environment, data: LocalData, prompts: Prompts | None
) -> None:
    """Write one benchmark's task file, the code that it names and the launcher into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    keys = {
        "include": str(task_source(benchmark, environment)),
        "task": benchmark.task_name,
        "dataset_name": None,
        **data.keys,
        **task_keys(benchmark, prompts),
    }
    lines = [f"{key}: {_written(value)}" for key, value in keys.items()]
    write_whole(folder / f"{benchmark.task_name}.yaml", ("\n".join(lines) + "\n").encode())
    for name in (_CODE, _LAUNCHER):
        write_whole(folder / f"{name}.py", _child(name))


def launcher(folder: Path) -> Path:
    """The script that `write_task` left in a folder: it starts lmms-eval."""
    return folder / f"{_LAUNCHER}.py"


def _child(name: str) -> bytes:
    """Code that runs in lmms-eval's environment, where fedcmp is not: hence copied."""
    return resources.files(_CHILD).joinpath(f"{name}.py").read_bytes()


def _written(value: Any) -> str:
    function = isinstance(value, str) and value.startswith("!function ")
    return value if function else json.dumps(value)
